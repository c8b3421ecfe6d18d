"""What clients refuse to read because it has been deleted."""

import json
from collections.abc import Iterable

from simulator.world.records import Forget


class Refusal(PermissionError):
    """A client was asked to read a record that it has deleted."""


class Tombstones:
    """Deleted records by arm and branch: they bind from the completion of a deletion on, on that branch only.

    Args:
        buried: what an earlier ``as_text`` said; empty for none.
    """

    def __init__(self, buried: str = "") -> None:
        self._dead: dict[str, dict[int, set[int]]] = {
            place: {int(client): set(records) for client, records in clients.items()}
            for place, clients in json.loads(buried or "{}").items()
        }

    def as_text(self) -> str:
        """All of it as JSON, for a store that outlives this object."""
        dead = {
            place: {client: sorted(records) for client, records in clients.items()}
            for place, clients in self._dead.items()
        }
        return json.dumps(dead)

    def bury(self, arm: str, branch: int, forget: Forget) -> None:
        """Mark records as deleted on one branch of one arm."""
        place = self._dead.setdefault(_place(arm, branch), {})
        for client, records in forget.items():
            place.setdefault(client, set()).update(records)

    def check(self, arm: str, branch: int, client: int, reads: Iterable[int]) -> None:
        """Refuse a read of deleted records.

        Raises:
            Refusal: some of ``reads`` are deleted on that branch.
        """
        dead = self._dead.get(_place(arm, branch), {}).get(client)
        if dead and (touched := sorted(dead.intersection(reads))):
            raise Refusal(f"client {client} has deleted its records {touched} on branch {branch} of {arm}")


def _place(arm: str, branch: int) -> str:
    return f"{arm}/{branch}"
