"""What a scenario means, before anything runs."""
