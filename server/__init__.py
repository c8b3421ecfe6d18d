"""What the server does, free of Flower."""
