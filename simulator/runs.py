"""Where runs are kept."""

import itertools
from datetime import datetime
from pathlib import Path


def unused_directory(scenario: str) -> Path:
    """``runs/<scenario>-<time>``, or with -2, -3, ... behind it where another run has taken that second."""
    name = Path("runs") / f"{scenario}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (name if count == 1 else Path(f"{name}-{count}") for count in itertools.count(1))
    return next(name for name in names if not name.exists())
