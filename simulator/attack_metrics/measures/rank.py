"""Rank of the deleted record among held-out ones, by how much each resembles the answer."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from palimpsest.simulator.attack_metrics.measures.measure import CANDIDATES, Background, Measure, Pairs, centred
from palimpsest.simulator.world.records import Array


def _has_candidates(background: Background) -> bool:
    return len(background.candidates) > 0


def _rank(pairs: Pairs, background: Background) -> Array:
    """``[t]`` 1 + how many candidates resemble the answer more than the true record does, by centred cosine.

    The raw cosine favours candidates near the mean. The record is ranked as if it stood at a random place in the
    candidates' list: ties are broken at random.
    """
    chosen = background.rng.permutation(len(background.candidates))[: CANDIDATES - 1]
    others = centred(np.asarray(background.candidates, np.float64)[chosen], background.mean)
    answers = centred(pairs.found_x, background.mean)
    similarity = (answers * centred(pairs.x, background.mean)).sum(axis=1, keepdims=True)
    margin = answers @ others.T - similarity
    ties = (np.abs(margin) <= 1e-12).sum(axis=1)
    rank: Array = 1 + (margin > 1e-12).sum(axis=1) + background.rng.integers(0, ties, endpoint=True)
    return rank


def _count(pairs: Pairs, background: Background) -> Array:
    """``[t]`` the candidates and the true record."""
    return np.full(len(pairs.y), min(len(background.candidates), CANDIDATES - 1) + 1)


def _first(frame: pd.DataFrame) -> Mapping[str, float]:
    return {"top1_of_1000": float((frame["rank"] == 1).mean())}


def _how_many(frame: pd.DataFrame) -> Mapping[str, int]:
    return {"candidates": int(frame["candidates"].iloc[0])}


RANK = Measure(_rank, _has_candidates, _first)
COUNT = Measure(_count, _has_candidates, _how_many)
