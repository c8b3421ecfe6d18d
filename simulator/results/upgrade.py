"""What older versions of ``results.json`` say, in the words of today's.

Version 2 has a row for each request, and how many there were beside them; version 1 had only how many.
"""

from collections.abc import Mapping
from typing import Any

VERSION = 2
"""Of ``results.json`` as it is written."""


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``results.json`` of any version that is read, as version 2 has it."""
    arms = content.get("arms")
    newer = [upgraded_arm(arm) for arm in arms] if isinstance(arms, list) else arms
    return {key: VERSION if key == "schema" else newer if key == "arms" else value for key, value in content.items()}


def upgraded_arm(arm: Any) -> Any:
    """One arm's entry as version 2 has it; what is no entry of version 1 is left as it is."""
    if not isinstance(arm, Mapping) or not isinstance(counts := arm.get("requests"), Mapping):
        return arm
    conditions = arm.get("conditions")
    pattern = conditions.get("pattern", "independent") if isinstance(conditions, Mapping) else "independent"
    newer: dict[str, Any] = {}
    for key, value in arm.items():
        if key == "requests":
            newer |= {f"requests_{name}": count for name, count in counts.items()}
            newer["requests"] = []
        elif key == "deletion" and isinstance(value, Mapping):
            newer[key] = {**value, "pattern": pattern}
        else:
            newer[key] = value
    return newer
