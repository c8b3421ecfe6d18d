"""Inversion of random Fourier features: which record has these features?"""

import math

import numpy as np
import torch
from torch import Tensor

from palimpsest.attacks.linear import precise_model
from palimpsest.simulator.world.models.model import RandomFourier
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_STARTS = 4
_STEPS = 300
_STILL = 1e-5
"""Largest move of a step, in bandwidths, after which a descent has arrived."""
_CHUNK = 32


def invert(targets: Array, knowledge: PublicKnowledge) -> Array:
    """Return ``x [b, d]`` in the box that minimises 1/2 ||phi(x) - target||^2.

    Accelerated projected gradient descent. Near its minimum the loss has the Hessian W^T diag(2/D sin^2) W, about
    I / bandwidth^2: the spectrum of a random matrix bounds it by (1 + sqrt(d/D))^2 / bandwidth^2, whose inverse is the
    step. Each record starts from the public mean and the public records nearest in feature space; the best loss wins.

    Args:
        targets: ``[b, D]`` estimated features.
        knowledge: the public sample, the box, and the features' public seed.
    """
    embed = precise_model(knowledge).embed
    assert isinstance(embed, RandomFourier)
    wanted = torch.tensor(targets)
    starts = _starts(wanted, embed, knowledge)
    chunks = [
        _descend(starts[i : i + _CHUNK], wanted[i : i + _CHUNK], embed, knowledge)
        for i in range(0, len(wanted), _CHUNK)
    ]
    return torch.cat(chunks).numpy()


def _starts(wanted: Tensor, embed: RandomFourier, knowledge: PublicKnowledge) -> Tensor:
    """``[b, starts, d]``: the public mean, and the nearest public records in feature space."""
    public = torch.tensor(np.asarray(knowledge.x), dtype=torch.float64)
    likeness = torch.cat([wanted @ embed(rows).T for rows in torch.split(public, 2048)], 1)
    nearest = likeness.topk(min(_STARTS - 1, len(public)), dim=1).indices
    mean = torch.tensor(knowledge.mean).expand(len(wanted), 1, -1)
    return torch.cat([mean, public[nearest]], 1)


def _descend(x: Tensor, wanted: Tensor, embed: RandomFourier, knowledge: PublicKnowledge) -> Tensor:
    """Nesterov's method from ``x [b, s, d]``; return the best end of each record's, ``[b, d]``."""
    low, high = torch.tensor(knowledge.box_low), torch.tensor(knowledge.box_high)
    dimension, width = embed.weight.shape
    assert knowledge.facts.model.features is not None
    bandwidth = knowledge.facts.model.features.bandwidth
    step = bandwidth**2 / (1.0 + math.sqrt(width / dimension)) ** 2
    target = wanted.unsqueeze(1)
    ahead, momentum = x, 1.0
    for _ in range(_STEPS):
        angle = ahead @ embed.weight.T + embed.phase
        off = embed.scale * torch.cos(angle) - target
        gradient = -(embed.scale * torch.sin(angle) * off) @ embed.weight
        moved = torch.clamp(ahead - step * gradient, low, high)
        following = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum**2))
        ahead = moved + (momentum - 1.0) / following * (moved - x)
        distance = float((moved - x).norm(dim=-1).max())
        x, momentum = moved, following
        if distance < _STILL * bandwidth:
            break
    loss = ((embed(x) - target) ** 2).sum(-1)
    return x[torch.arange(len(x)), loss.argmin(1)]
