"""``key=value`` options at the command line that belong to no scenario."""

from collections.abc import Sequence
from typing import Any

from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.overrides import overridden


def keyed(flag: str, options: Sequence[str]) -> dict[str, Any]:
    """Read options, values as in TOML; what is no TOML value is text.

    Args:
        flag: by which they were given, for errors.
        options: ``key=value`` each.

    Raises:
        ScenarioError: one has no ``=``, or no key.
    """
    for option in options:
        key, separator, _ = option.partition("=")
        if not separator or not key.strip():
            raise ScenarioError(f"{flag} {option}: must be KEY=VALUE, such as {flag} hidden=32")
    return overridden({}, options)
