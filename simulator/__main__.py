"""``python -m palimpsest.simulator`` is ``palimpsest``."""

import errno
import gc
import os
import sys

import palimpsest.simulator.world.garbage  # noqa: F401  # before what takes long to load
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
        _flush()
        gc.freeze()  # Python would look through all that was loaded for garbage before it ends: 0.9 s after a run


def _flush() -> None:
    """Write out what was printed; Python itself would show where it failed, after the exit code is settled."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # as of head, which has read enough
            print(f"error: what was printed could not be written: {error.strerror}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
