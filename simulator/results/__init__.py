"""The run directory, and what it says."""
