"""Sufficient statistics of ridge over the records of many clients; in float64, on the CPU."""

import numpy as np
import torch
from torch import Tensor

from palimpsest.clients.local_data import LocalData
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.protocols.federation import Factor, Statistics
from palimpsest.simulator.world.protocols.questions import RidgeFactors, RidgeStatistics
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import ModelSpec


def statistics(data: LocalData, question: RidgeStatistics) -> list[Statistics]:
    """Ridge statistics of what each block retains; see ``RidgeStatistics``.

    Clients that forget something are added up apart from the others: of blocks in a row that differ by what the
    same clients forget, the others are read once.
    """
    model, results = model_of(question.spec), []
    apart: tuple[object, Statistics] | None = None
    for block in question.blocks:
        used, forgetful = data.kept_mask(block), data.forgetful_mask(block)
        key = block.clients, forgetful.tobytes()
        if apart is None or apart[0] != key:
            apart = key, _statistics_at(data, model, block.clients, ~forgetful)
        total = apart[1]
        if forgetful.any():
            total = total.plus(_statistics_at(data, model, block.clients, forgetful & used))
        results.append(total)
    return results


def _statistics_at(data: LocalData, model: Model, clients: tuple[int, ...], used: Array) -> Statistics:
    """Of the records of some clients that a mask names."""
    outputs, width = model.shapes["weight"]
    gram, moment, seen = np.zeros((width + 1, width + 1)), np.zeros((width + 1, outputs)), 0
    for x, y in data.reader.read_clients(model, clients):
        mask = torch.from_numpy(used[seen : seen + len(x)])
        seen += len(x)
        if mask.any():
            rows = _with_intercept(x[mask].double()).numpy()
            gram += rows.T @ rows  # NumPy sees that this is symmetric, and does half the work
            moment += rows.T @ _targets(model.spec, y[mask]).numpy()
    return Statistics(gram, moment, int(used.sum()))


def factors(data: LocalData, question: RidgeFactors) -> list[Factor]:
    """Ridge statistics of what each block forgets; see ``RidgeFactors``."""
    model = model_of(question.spec)
    results = []
    for block in question.blocks:
        parts = list(data.reader.read(model, data.forgotten_rows(block)))
        if not parts:  # clients without a record
            width, outputs = model.shapes["weight"][1] + 1, model.shapes["weight"][0]
            results.append(Factor(np.zeros((0, width)), np.zeros((width, outputs)), 0))
            continue
        rows = torch.cat([_with_intercept(x.double()) for x, _ in parts])
        moment = rows.T @ torch.cat([_targets(question.spec, y) for _, y in parts])
        # The triangular factor says what X^T X says and no more; of one record it is the record, up to sign.
        root = torch.linalg.qr(rows, mode="r").R if len(rows) > 1 else rows
        results.append(Factor(root.numpy(), moment.numpy(), len(rows)))
    return results


def _with_intercept(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def _targets(spec: ModelSpec, y: Tensor) -> Tensor:
    """``[n, Q]`` float64: one-hot classes, or the targets."""
    if spec.task == "regression":
        return y.double().unsqueeze(1)
    return torch.nn.functional.one_hot(y, spec.outputs).double()
