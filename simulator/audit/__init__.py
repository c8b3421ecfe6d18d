"""Audits of deletions that others carried out: two checkpoints of their model, and no federation."""
