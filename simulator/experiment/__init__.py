"""What happens when a plan runs."""
