"""From directions in feature space to records: sign and scale by the intercept, the box, the feature map."""

from dataclasses import dataclass

import numpy as np
import torch

from attacks.embedding import invert
from attacks.linear import precise_model
from simulator.world.knowledge import PublicKnowledge
from simulator.world.records import Array

_TINY = 1e-12


@dataclass(frozen=True)
class Read:
    """Records read off directions.

    Attributes:
        x: ``[b, d]`` float64 records.
        features: ``[b, p + 1]`` x~ of these records.
        flipped: ``[b]`` whether the box overruled the intercept's sign.
    """

    x: Array
    features: Array
    flipped: Array


def read(directions: Array, knowledge: PublicKnowledge, rng: np.random.Generator) -> Read:
    """Return the records whose x~ points along each direction ``[b, p + 1]``.

    The intercept's coordinate is 1 for every record, which gives scale and sign; where it is small, noise can turn its
    sign, so without a feature map the sign is the one that leaves the data's box least. Images are then clipped to the
    box, tables are not: a private record may lie outside the public sample's range.
    """
    if knowledge.facts.model.features is not None:
        x = invert(_scaled(directions), knowledge, rng)
        flipped = np.zeros(len(x), dtype=bool)
    else:
        x, flipped = _in_box(_scaled(directions), knowledge.box_low, knowledge.box_high)
        if knowledge.facts.schema_.is_image:
            x = np.clip(x, knowledge.box_low, knowledge.box_high)
    phi = precise_model(knowledge).embed(torch.tensor(x)).numpy()
    return Read(x, np.concatenate([phi, np.ones((len(x), 1))], axis=1), flipped)


def _scaled(directions: Array) -> Array:
    """``[b, p + 1] -> [b, p]`` so that the intercept's coordinate is 1."""
    last = directions[:, -1:]
    floor = _TINY * np.linalg.norm(directions, axis=1, keepdims=True)
    safe = np.where(np.abs(last) < floor, np.copysign(floor, last), last)
    scaled: Array = directions[:, :-1] / safe
    return scaled


def _in_box(x: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Turn the records that leave the box less when negated; return them all, and which were turned."""
    flipped = _excess(-x, low, high) < _excess(x, low, high)
    return np.where(flipped[:, None], -x, x), flipped


def _excess(x: Array, low: Array, high: Array) -> Array:
    """``[b]`` squared distance from the box."""
    distance: Array = ((x - np.clip(x, low, high)) ** 2).sum(axis=1)
    return distance
