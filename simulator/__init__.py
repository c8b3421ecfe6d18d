"""Palimpsest: federated unlearning under an eavesdropper."""
