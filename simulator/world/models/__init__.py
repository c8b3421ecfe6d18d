"""Models, as functions of explicit parameters, and their training."""
