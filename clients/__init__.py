"""What a client does, free of Flower."""
