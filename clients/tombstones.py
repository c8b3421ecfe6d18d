"""What clients refuse to read because it has been deleted."""

import json
from collections.abc import Iterable, MutableMapping
from typing import Any

from palimpsest.simulator.world.records import Forget


class Refusal(PermissionError):
    """A client was asked to read a record that it has deleted."""


class Tombstones:
    """Deleted records by arm and branch: they bind from the completion of a deletion on, on that branch only.

    Args:
        buried: where they are kept, a JSON text a branch, so that a mark or a look costs one branch and not all.
    """

    def __init__(self, buried: MutableMapping[str, Any] | None = None) -> None:
        self._buried: MutableMapping[str, Any] = {} if buried is None else buried

    def bury(self, arm: str, branch: int, forget: Forget) -> None:
        """Mark records as deleted on one branch of one arm."""
        dead = self._dead(arm, branch)
        self._keep(arm, branch, dead | {c: dead.get(c, set()).union(records) for c, records in forget.items()})

    def lift(self, arm: str, branch: int, consented: Forget) -> None:
        """Take back the marks of records whose clients consent to their use again."""
        dead = self._dead(arm, branch)
        self._keep(arm, branch, {client: dead[client].difference(consented.get(client, ())) for client in dead})

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
        dead = self._dead(arm, branch)
        for client in dead.keys() & set(clients):
            named = set(forget.get(client, ()))
            touched = dead[client] & named if of == "forgotten" else dead[client] - named
            if touched:
                raise Refusal(f"client {client} has deleted its records {sorted(touched)} on branch {branch} of {arm}")

    def _dead(self, arm: str, branch: int) -> dict[int, set[int]]:
        kept = json.loads(str(self._buried.get(_place(arm, branch), "{}")))
        return {int(client): set(records) for client, records in kept.items()}

    def _keep(self, arm: str, branch: int, dead: dict[int, set[int]]) -> None:
        texts = {client: sorted(records) for client, records in dead.items()}
        self._buried[_place(arm, branch)] = json.dumps(texts)


def _place(arm: str, branch: int) -> str:
    return f"{arm}/{branch}"
