"""Records: where they come from, and who holds them."""
