"""The product's own path as a contestant: server algorithm, blocks, Flower messages, Ray actors."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from palimpsest.server.algorithms import fedavg
from palimpsest.server.setup import Lineage
from palimpsest.simulator.bench.work import Work, children
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.federation.grids import open_grid
from palimpsest.simulator.world.records import Params


class PalimpsestHosts:
    """Rounds of the server's federated averaging on so many hosts of one Ray session."""

    def __init__(self, hosts: int) -> None:
        began, before = time.perf_counter(), children()
        self._open = ExitStack()
        self.grid = self._open.enter_context(open_grid("ray", hosts))
        GridFederation(self.grid, {}, np.zeros(0), 0, "bench").hosts()
        self.start = time.perf_counter() - began
        self.processes = tuple(children() - before)

    def federation(self, work: Work) -> GridFederation:
        """The clients of a piece of work."""
        about = {"data": {}, "directory": str(work.directory)}
        return GridFederation(self.grid, about, work.setup.sizes, 0, "bench")

    def rounds(self, work: Work) -> Iterator[Params]:
        """See ``Contestant.rounds``."""
        steps = fedavg.rounds(work.setup, [Lineage(branch=0, forget={})], [work.start()], self.federation(work))
        return (step.models[0] for step in steps)

    def close(self) -> None:
        """See ``Contestant.close``."""
        self._open.close()
