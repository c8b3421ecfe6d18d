"""``python -m palimpsest.simulator`` is ``palimpsest``."""

from palimpsest.simulator.cli.main import main

main()
