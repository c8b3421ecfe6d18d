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

    def lift(self, arm: str, branch: int, consented: Forget) -> None:
        """Take back the marks of records whose clients consent to their use again."""
        place = self._dead.get(_place(arm, branch), {})
        for client, records in consented.items():
            place.get(client, set()).difference_update(records)

    def check(self, arm: str, branch: int, clients: Iterable[int], forget: Forget, of: str) -> None:
        """Refuse a read of deleted records.

        Args:
            arm, branch: where the read happens.
            clients: whose records are read.
            forget: local indices by client.
            of: ``retained``: everything but ``forget`` is read; ``forgotten``: exactly that.

        Raises:
            Refusal: some of what is read is deleted on that branch.
        """
        dead = self._dead.get(_place(arm, branch), {})
        for client in dead.keys() & set(clients):
            named = set(forget.get(client, ()))
            touched = dead[client] & named if of == "forgotten" else dead[client] - named
            if touched:
                raise Refusal(f"client {client} has deleted its records {sorted(touched)} on branch {branch} of {arm}")


def _place(arm: str, branch: int) -> str:
    return f"{arm}/{branch}"
