"""A run's secret: given by the environment or by the scenario, or drawn; nothing that is written ever holds it.

``privacy.secret`` of a loaded scenario says where the secret came from, and no more.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping
from typing import Any

from palimpsest.simulator.scenario.errors import ScenarioError

VARIABLE = "PALIMPSEST_SECRET"
"""Environment variable that holds the secret of a run whose scenario says ``given``."""
SHORTEST = 16
"""Characters of a secret, at least."""


def taken(privacy: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """Take the secret out of a scenario's ``privacy`` section.

    Args:
        privacy: as it is written. ``secret`` is "" for none, ``random``, ``given`` (by the environment), or the secret.

    Returns:
        The section with ``random`` or ``given`` in the secret's place, and the secret; empty: none.

    Raises:
        ScenarioError: the secret is missing or too short; the message does not repeat it.
    """
    said = privacy.get("secret", "")
    if not isinstance(said, str):
        raise ScenarioError("privacy.secret must be text: 'random', 'given', or the secret itself")
    if not said:
        return privacy, ""
    if said == "random":
        return privacy, secrets.token_hex(SHORTEST)
    value = said
    if said == "given":
        value = os.environ.get(VARIABLE, "")
        if not value:
            raise ScenarioError(
                f"privacy.secret = 'given', and the environment variable {VARIABLE} is not set: set it to the run's "
                f"secret"
            )
    if len(value) < SHORTEST:
        where = f"environment variable {VARIABLE}" if said == "given" else "privacy.secret"
        raise ScenarioError(
            f"{where} has {len(value)} characters, which can be guessed: give {SHORTEST} or more, or 'random' in "
            f"privacy.secret"
        )
    return {**privacy, "secret": "given"}, value


def fingerprint(secret: str) -> dict[str, str]:
    """What tells whether a secret is the same one, and leads to it by trying alone; a try takes 16 MiB and 50 ms."""
    salt = secrets.token_bytes(16)
    return {"salt": salt.hex(), "digest": _digest(secret, salt)}


def is_of(secret: str, known: Mapping[str, str]) -> bool:
    """Whether a fingerprint is that of a secret."""
    return secrets.compare_digest(_digest(secret, bytes.fromhex(known["salt"])), known["digest"])


def _digest(secret: str, salt: bytes) -> str:
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32).hex()
