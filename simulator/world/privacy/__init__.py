"""Noise, and the account of what it hides."""
