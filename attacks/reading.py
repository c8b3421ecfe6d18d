"""From directions in feature space to records: sign and scale by the intercept, the box, the feature map."""

from dataclasses import dataclass

import numpy as np
import torch

from palimpsest.attacks.embedding import invert
from palimpsest.attacks.linear import precise_model
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_TINY = 1e-12
_LONGEST = 2.0


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


def read(directions: Array, knowledge: PublicKnowledge) -> Read:
    """Return the records whose x~ points along each direction ``[b, p + 1]``.

    The intercept's coordinate is 1 for every record, which gives scale and sign. With a feature map, a record with such
    features is then searched for; otherwise see ``_settled``. A direction of length 0 says nothing: the public mean.
    """
    if knowledge.model.maps:
        x = invert(_scaled(directions), knowledge)
        flipped = np.zeros(len(x), dtype=bool)
    else:
        x, flipped = _settled(_lengthened(_scaled(directions), knowledge), knowledge)
    x[np.linalg.norm(directions, axis=1) == 0.0] = knowledge.mean
    phi = precise_model(knowledge).embed(torch.tensor(x)).numpy()
    return Read(x, np.concatenate([phi, np.ones((len(x), 1))], axis=1), flipped)


def _scaled(directions: Array) -> Array:
    """``[b, p + 1] -> [b, p]`` so that the intercept's coordinate is 1."""
    last = directions[:, -1:]
    floor = _TINY * np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), _TINY)
    safe = np.where(np.abs(last) < floor, np.copysign(floor, last), last)
    scaled: Array = directions[:, :-1] / safe
    return scaled


def _lengthened(x: Array, knowledge: PublicKnowledge) -> Array:
    """Give records ``[b, d]`` a length again that a defense cut to ``row_clip``: the median of public ones beyond that.

    What was cut says nothing of its own length, and scores are of records as they were. An answer that is shorter than
    half of what records were cut to is left alone.
    """
    clip = knowledge.facts.model.row_clip
    public = np.linalg.norm(knowledge.x, axis=1)
    if not clip or not (longer := public[public > clip]).size:
        return x
    length = np.linalg.norm(x, axis=1, keepdims=True)
    lengthened: Array = np.where(length > clip / 2.0, x * np.median(longer) / np.maximum(length, _TINY), x)
    return lengthened


def _settled(x: Array, knowledge: PublicKnowledge) -> tuple[Array, Array]:
    """Settle length and sign of records ``[b, d]``; return them, and where the box overruled the intercept's sign.

    A small intercept is noise: it gives records longer than any, of either sign. Length: cut to twice that of the
    longest public record. Sign: for images, whose box only one sign fits, the one that leaves the box less, and then
    they are clipped. For tables, which lie on both sides of 0, that would be a guess: only a record whose length was
    cut is turned, and none is clipped, for a private record may lie outside the public sample's range.
    """
    low, high, image = knowledge.box_low, knowledge.box_high, knowledge.facts.schema_.is_image
    length = np.linalg.norm(x, axis=1, keepdims=True)
    longest = _LONGEST * np.linalg.norm(knowledge.x, axis=1).max()
    cut = x * np.minimum(1.0, longest / np.maximum(length, _TINY))
    outside = _excess(-cut, low, high) < _excess(cut, low, high)
    flipped = outside & (image | (length[:, 0] > longest))
    settled = np.where(flipped[:, None], -cut, cut)
    return (np.clip(settled, low, high) if image else settled), flipped


def _excess(x: Array, low: Array, high: Array) -> Array:
    """``[b]`` squared distance from the box."""
    distance: Array = ((x - np.clip(x, low, high)) ** 2).sum(axis=1)
    return distance
