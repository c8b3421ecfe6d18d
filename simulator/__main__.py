"""``python -m palimpsest.simulator`` is ``palimpsest``."""

import sys

from palimpsest.simulator.world.signals import end_on_signals, exit_code, ignore_signals, received


def main() -> None:
    """Entry point of ``palimpsest``: signals are minded before anything that takes time to import."""
    end_on_signals()
    try:
        from palimpsest.simulator.cli.main import main as command

        command()
    except KeyboardInterrupt:
        print(f"ended by {received().name}.", file=sys.stderr)
        sys.exit(exit_code())
    finally:
        ignore_signals()


if __name__ == "__main__":
    main()
