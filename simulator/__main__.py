"""``python -m simulator`` is ``palimpsest``."""

from simulator.cli import main

main()
