"""Which hosts there are, and which of them holds which site's records."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from palimpsest.simulator.world.data.sites import site_of
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.records import Forget

PATIENCE = 60.0
"""Seconds that sites are waited for: SuperNodes of a deployment connect when they like."""


class HostsError(RunFailure):
    """The hosts that are connected do not make up the federation that the scenario describes."""


@dataclass(frozen=True)
class ConnectedHosts:
    """The hosts of a federation.

    Attributes:
        homes: node id -> its site, None where it serves any client; in the order of sites, then partition ids.
        population: number of clients.
        sites: of the scenario; 0: none.
        gpus: node id -> whether it sees a GPU.
    """

    homes: Mapping[int, int | None]
    population: int
    sites: int
    gpus: Mapping[int, bool]

    @property
    def nodes(self) -> list[int]:
        """Node ids, in order."""
        return list(self.homes)

    def serving(self, client: int) -> list[int]:
        """The hosts that have this client's records."""
        home = int(site_of(np.array([client]), self.population, self.sites)[0])
        return [node for node, site in self.homes.items() if site is None or site == home]

    def part(self, node: int, forget: Forget) -> Forget:
        """What of a deletion is a host's business: a site hears nothing of another's clients."""
        if self.homes[node] is None:
            return forget
        return {client: records for client, records in forget.items() if node in self.serving(client)}


def connect(
    nodes: Callable[[], Iterable[int]],
    hello: Callable[[Iterable[int]], Mapping[int, Mapping[str, Any]]],
    population: int,
    sites: int,
) -> ConnectedHosts:
    """Ask who is there, until every site is, or ``PATIENCE`` is at an end.

    Args:
        nodes: of those who are connected.
        hello: of each node its partition, whether it sees a GPU, and its site and how many there are where it holds
            one's records.
        population: number of clients.
        sites: of the scenario.

    Raises:
        HostsError: nobody is there, or a site is missing, or a host belongs to another federation.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        answers = hello(list(nodes()))
        for node, said in answers.items():
            if "site" in said and said["sites"] != sites:
                raise HostsError(
                    f"host {node} holds the records of site {said['site']} of {said['sites']}, and the scenario has "
                    f"runtime.sites = {sites}: give the number that its data was split by"
                )
        homes = {node: said.get("site") for node, said in answers.items()}
        missing = set(range(sites)).difference(site for site in homes.values() if site is not None)
        if homes and (not missing or None in homes.values()):
            order = sorted(homes, key=lambda node: (homes[node] or 0, int(answers[node]["partition"]), node))
            gpus = {node: bool(answers[node]["gpu"]) for node in order}
            return ConnectedHosts({node: homes[node] for node in order}, population, sites, gpus)
        if not sites or time.monotonic() > deadline:
            raise HostsError(f"sites {sorted(missing)} are not connected" if homes else "no host is connected")
        time.sleep(1.0)
