"""The ``palimpsest`` command."""
