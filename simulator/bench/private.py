"""DP-SGD a client, beside Opacus on the same clients: one process, one thread, the process's own CPU time."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from palimpsest.clients.private import PrivateSlot, fit_privately
from palimpsest.simulator.bench.work import RECIPE, RECORDS
from palimpsest.simulator.bench.workloads import spec_of
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.privacy.noise import noise_of
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import PrivateSteps

NOISE, CLIP = 1.0, 1.0
OPACUS = 20
"""Clients that Opacus trains in a turn: they cost the same each."""


@dataclass(frozen=True)
class PrivateLine:
    """One contestant on one model.

    Attributes:
        milliseconds: CPU time a client and round, the median over turns.
        fastest, slowest: over turns.
        times: of Palimpsest's.
    """

    kind: str
    contestant: str
    milliseconds: float
    fastest: float
    slowest: float
    times: float


def measure(kinds: Sequence[str], clients: int, turns: int, console: Console) -> list[PrivateLine]:
    """One epoch of DP-SGD in Poisson batches of 10 over 50 records a client, a turn of each contestant after another.

    Opacus twice: an engine made for each client, as its examples do; and one module whose parameters are loaded anew.

    Args:
        kinds: of models.
        clients: that Palimpsest trains in a turn.
        turns: that are measured; one more comes before them.
        console: is told each line.
    """
    lines = []
    for kind in kinds:
        model = model_of(spec_of(kind))
        rng = np.random.default_rng(0)
        x = torch.from_numpy(rng.random((clients * RECORDS, model.inputs), dtype=np.float32))
        y = torch.from_numpy(rng.integers(0, 10, clients * RECORDS))
        contestants: dict[str, tuple[Callable[..., None], int]] = {
            "palimpsest": (_packed, clients),
            "opacus, an engine a client": (_engines, min(OPACUS, clients)),
            "opacus, one module": (_one_module, min(OPACUS, clients)),
        }
        spent: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(turns + 1):
            for name, (train, count) in contestants.items():
                began = time.process_time()
                train(model, x, y, count)
                spent[name].append(1000.0 * (time.process_time() - began) / count)
        ours = float(np.median(spent["palimpsest"][1:]))
        for name, each in spent.items():
            median = float(np.median(each[1:]))
            lines.append(PrivateLine(kind, name, median, min(each[1:]), max(each[1:]), median / ours))
            console.print(f"{kind}: {name} {median:.2f} ms a client")
    return lines


def table(lines: Sequence[PrivateLine]) -> Table:
    """The comparison, a client and round."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("model", "contestant"):
        shown.add_column(header, no_wrap=True)
    for header in ("CPU ms", "turns", "times ours"):
        shown.add_column(header, justify="right", no_wrap=True)
    for line in lines:
        ends = f"{line.fastest:.2f} to {line.slowest:.2f}"
        shown.add_row(line.kind, line.contestant, f"{line.milliseconds:.2f}", ends, f"{line.times:.1f}")
    return shown


def _packed(model: Model, x: torch.Tensor, y: torch.Tensor, clients: int) -> None:
    """What a host does with its clients."""
    recipe = RECIPE.model_copy(update={"private": PrivateSteps(clip=CLIP, noise_multiplier=NOISE)})
    starts = {name: torch.from_numpy(value)[None] for name, value in model.init(generator(0, "init")).items()}
    slots = [
        PrivateSlot(0, np.arange(RECORDS) + client * RECORDS, noise_of(0, ("noise",), client, 0))
        for client in range(clients)
    ]
    fit_privately(model, starts, slots, x, y, recipe)


def _engines(model: Model, x: torch.Tensor, y: torch.Tensor, clients: int) -> None:
    from opacus import PrivacyEngine

    start = model.init(generator(0, "init"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for client in range(clients):
            module, rows = model.module(start), slice(client * RECORDS, (client + 1) * RECORDS)
            loader = DataLoader(TensorDataset(x[rows], y[rows]), batch_size=RECIPE.batch_size)
            private, optimizer, batches = PrivacyEngine().make_private(
                module=module,
                optimizer=torch.optim.SGD(module.parameters(), lr=RECIPE.learning_rate),
                data_loader=loader,
                noise_multiplier=NOISE,
                max_grad_norm=CLIP,
            )
            _step_through(private, optimizer, batches)


def _one_module(model: Model, x: torch.Tensor, y: torch.Tensor, clients: int) -> None:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = model.module(model.init(generator(0, "init")))
        start = {name: value.detach().clone() for name, value in module.state_dict().items()}
        private, count = GradSampleModule(module), -(-RECORDS // RECIPE.batch_size)
        rng = np.random.default_rng(0)
        for client in range(clients):
            module.load_state_dict(start)
            inner = torch.optim.SGD(private.parameters(), lr=RECIPE.learning_rate)
            optimizer = DPOptimizer(
                inner, noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=RECIPE.batch_size
            )
            drawn = [np.flatnonzero(rng.random(RECORDS) * count < 1.0) + client * RECORDS for _ in range(count)]
            _step_through(private, optimizer, [(x[rows], y[rows]) for rows in drawn])


def _step_through(module: nn.Module, optimizer: Any, batches: Any) -> None:
    for records, labels in batches:
        optimizer.zero_grad()
        if len(records):
            torch.autograd.backward(nn.functional.cross_entropy(module(records), labels))
            optimizer.step()
