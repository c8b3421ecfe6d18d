"""Training algorithms, one file each: how the server turns what clients send into the next global model."""
