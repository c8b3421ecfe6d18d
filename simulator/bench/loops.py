"""The contestants without a framework: a process a core, and in each a plain torch loop or a bare ``vmap``."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from palimpsest.simulator.bench.work import RECIPE, RECORDS, Work, batches, children, opened
from palimpsest.simulator.bench.workloads import loss_of, spec_of
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.specs import ModelKind

WIDTH, WIDTH_BYTES = 64, 2**28
"""Clients stepped together by ``vmap``, and what their parameters take at most."""

Sum = dict[str, Array]


class Loops:
    """One of the loops below on so many processes."""

    def __init__(self, train: Callable[[Work, Params, Sequence[int], int], Sum], processes: int) -> None:
        began, before = time.perf_counter(), children()
        self._train, self._count = train, processes
        self._pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_one_thread)
        list(self._pool.map(_awake, [0.2] * processes))  # long enough for each to get one
        self.start = time.perf_counter() - began
        self.processes = tuple(children() - before)

    def rounds(self, work: Work) -> Iterator[Params]:
        """See ``Contestant.rounds``."""
        model = work.start()
        for round in range(work.rounds + 1):
            clients = sorted(work.clients(round))
            shares = np.array_split(clients, self._count)
            jobs = [self._pool.submit(self._train, work, model, share.tolist(), round) for share in shares]
            sums = [job.result() for job in jobs]
            model = {
                name: (value + sum(part[name] for part in sums) / len(clients)).astype(value.dtype)
                for name, value in model.items()
            }
            yield model

    def close(self) -> None:
        """See ``Contestant.close``."""
        self._pool.shutdown()


def plainly(work: Work, model: Params, clients: Sequence[int], round: int) -> Sum:
    """One client after the other, with a module and ``torch.optim.SGD``: what most simulators come down to."""
    x, y = opened(work.directory)
    module = work.model.module(model)
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    start = {name: value.detach().clone() for name, value in trained.items()}
    total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in start.items()}
    loss = loss_of(work.model)
    for client in clients:
        with torch.no_grad():
            for name, value in trained.items():
                value.copy_(start[name])
        optimiser = torch.optim.SGD(trained.values(), lr=RECIPE.learning_rate)
        for batch in batches(client, round) + client * RECORDS:
            optimiser.zero_grad()
            loss(module(x[batch]), y[batch]).backward()
            optimiser.step()
        for name, value in trained.items():
            total[name] += value.detach() - start[name]
    return {name.removeprefix("body."): value.numpy() for name, value in total.items()}


def vmapped(work: Work, model: Params, clients: Sequence[int], round: int) -> Sum:
    """``vmap(grad)`` over stacked clients, and nothing else."""
    x, y = opened(work.directory)
    start = work.model.tensors(model)
    step, width = _step(work.kind), min(WIDTH, max(2, WIDTH_BYTES // work.model.bytes))
    total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in start.items()}
    for begin in range(0, len(clients), width):
        pack = clients[begin : begin + width]
        rows = torch.from_numpy(np.stack([batches(client, round) + client * RECORDS for client in pack]))
        params = {name: value.expand(len(pack), *value.shape).clone() for name, value in start.items()}
        for i in range(rows.shape[1]):
            gradients = step(params, x[rows[:, i]], y[rows[:, i]])
            for name, value in params.items():
                value.sub_(gradients[name], alpha=RECIPE.learning_rate)
        for name, value in params.items():
            total[name] += (value - start[name]).sum(0)
    return {name: value.numpy() for name, value in total.items()}


@lru_cache
def _step(kind: ModelKind) -> Callable[[dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]:
    model = model_of(spec_of(kind))
    module, mean_loss = model.module(model.init(np.random.default_rng(0))), loss_of(model)

    def loss(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        named = {f"body.{name}": value for name, value in params.items()}
        mean: Tensor = mean_loss(functional_call(module, named, (x,)), y)
        return mean

    return vmap(grad(loss))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _awake(seconds: float) -> None:
    time.sleep(seconds)
