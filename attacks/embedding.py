"""Inversion of feature maps: which record has these features?"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from palimpsest.attacks.adam import Adam
from palimpsest.attacks.linear import precise_model
from palimpsest.simulator.world.models.model import RandomFourier
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_STARTS = 4
_STEPS = 300
_STILL = 1e-5
"""Largest move of a step, in bandwidths, after which a descent has arrived."""
_CHUNK = 32
_RATE = 0.02
"""Of Adam, in shares of the box."""


def invert(targets: Array, knowledge: PublicKnowledge) -> Array:
    """Return ``x [b, d]`` in the box that minimises 1/2 ||phi(x) - target||^2.

    Random Fourier features: accelerated projected gradient descent. Near its minimum the loss has the Hessian
    W^T diag(2/D sin^2) W, about I / bandwidth^2: the spectrum of a random matrix bounds it by
    (1 + sqrt(d/D))^2 / bandwidth^2, whose inverse is the step. Other maps: Adam, in shares of the box. Each record
    starts from the public mean and the public records nearest in feature space; the best loss wins.

    Args:
        targets: ``[b, D]`` estimated features.
        knowledge: the public sample, the box, and the features' public seed.
    """
    embed = precise_model(knowledge).embed
    wanted = torch.tensor(targets)
    starts = _starts(wanted, embed, knowledge)
    chunks = []
    for i in range(0, len(wanted), _CHUNK):
        some = slice(i, i + _CHUNK)
        if isinstance(embed, RandomFourier):
            chunks.append(_descend(starts[some], wanted[some], embed, knowledge))
        else:
            chunks.append(_descend_anyhow(starts[some], wanted[some], embed, knowledge))
    return torch.cat(chunks).numpy()


def _starts(wanted: Tensor, embed: nn.Module, knowledge: PublicKnowledge) -> Tensor:
    """``[b, starts, d]``: the public mean, and the nearest public records in feature space."""
    public = torch.tensor(np.asarray(knowledge.x), dtype=torch.float64)
    phi = torch.cat([embed(rows) for rows in torch.split(public, 2048)])
    # Random Fourier features have one length, up to noise: their likeness is a product.
    likeness = wanted @ phi.T if isinstance(embed, RandomFourier) else -torch.cdist(wanted, phi)
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


def _descend_anyhow(x: Tensor, wanted: Tensor, embed: nn.Module, knowledge: PublicKnowledge) -> Tensor:
    """Adam from ``x [b, s, d]`` by the map's own gradient; return the best point of each record's, ``[b, d]``."""
    low = torch.tensor(knowledge.box_low)
    side = (torch.tensor(knowledge.box_high) - low).clamp(min=torch.finfo(x.dtype).tiny)
    target = wanted.unsqueeze(1)
    best, least = x, torch.full(x.shape[:2], torch.inf, dtype=x.dtype)
    share = ((x - low) / side).clamp(0.0, 1.0).requires_grad_()
    adam = Adam([share])
    for _ in range(_STEPS + 1):
        records = low + share * side
        loss = ((embed(records.flatten(0, 1)).view(*x.shape[:2], -1) - target) ** 2).sum(-1)
        better = loss.detach() < least
        best = torch.where(better.unsqueeze(-1), records.detach(), best)
        least = torch.where(better, loss.detach(), least)
        adam.step(loss.sum(), _RATE)
        with torch.no_grad():
            share.clamp_(0.0, 1.0)
    return best[torch.arange(len(x)), least.argmin(1)]
