"""Where ground truth and reconstruction meet for the first time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.optimize import linear_sum_assignment

from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Reconstruction
from palimpsest.simulator.world.specs import Schema

CANDIDATES = 1000
"""Records among which the true one is looked for, itself included."""
_RESAMPLES = 1000
_FINEST = -20.0 * np.log10(np.finfo(np.float64).eps)
_SMALL = (0.01**2, 0.03**2)
"""Constants of SSIM that keep its quotients finite."""
_SPREADS = ("cosine", "cosine_centred", "mse", "psnr", "ssim", "target_error")


@dataclass(frozen=True)
class Truth:
    """The deleted records of one case: ``x [k, d]`` float64 and ``y [k]``."""

    case: int
    x: Array
    y: Array


@dataclass(frozen=True)
class _Pairs:
    """Targets in order, each beside the answer matched with it; all arrays have one row a target."""

    case: Array
    target: Array
    x: Array
    y: Array
    found_x: Array
    found_y: Array


def score_attack(
    truths: Sequence[Truth],
    reconstructions: Sequence[Reconstruction],
    knowledge: PublicKnowledge,
    schema: Schema,
    candidates_x: Array,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Score one attack: a row for each deleted record.

    Columns: case; target (position in the truth); cosine; cosine_centred (both sides less the public mean; 0 for
    the public mean itself); mse; psnr and ssim (images, clipped to [0, 1]); label_correct or target_error (absolute);
    rank and candidates; no_signal; notes. The answers of a case are matched to its records by the best total
    cosine. ``rank`` is 1 + how many candidates resemble the answer more than the true record does, by centred cosine
    (the raw one favours candidates near the mean); ties are broken at random. Columns that do not apply are absent.

    Args:
        truths: one a case.
        reconstructions: one a case, in the order of ``truths``.
        knowledge: for the public mean.
        schema: form and task of the data.
        candidates_x: ``[c, d]`` records held out from training and from the attack; at most 999 of them, drawn by
            ``rng``, join the true one. May be empty.
        rng: draws candidates and breaks ties.

    Raises:
        ValueError: an answer is missing, of another case, of the wrong shape, or not finite.
    """
    if not truths:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in ("case", "target", "cosine", "cosine_centred")})
    _check(truths, reconstructions)
    pairs = _matched(truths, reconstructions)
    columns: dict[str, Array] = {
        "case": pairs.case,
        "target": pairs.target,
        "cosine": _cosine(pairs.x, pairs.found_x),
        "cosine_centred": (_centred(pairs.x, knowledge.mean) * _centred(pairs.found_x, knowledge.mean)).sum(axis=1),
        "mse": ((pairs.x - pairs.found_x) ** 2).mean(axis=1),
    }
    if schema.is_image:
        columns |= _image_quality(pairs.x, pairs.found_x, schema.shape)
    columns |= _labels(pairs, schema)
    if len(candidates_x):
        columns |= _ranks(pairs, candidates_x, knowledge.mean, rng)
    return pd.DataFrame(columns | _reported(truths, reconstructions))


def _labels(pairs: _Pairs, schema: Schema) -> dict[str, Array]:
    """Whether classes are right, or how far targets are off."""
    if schema.task == "classification":
        return {"label_correct": pairs.y == pairs.found_y}
    return {"target_error": np.abs(pairs.y - pairs.found_y)}


def _reported(truths: Sequence[Truth], reconstructions: Sequence[Reconstruction]) -> dict[str, Array]:
    """What the attack said of its answers: that there was no signal, and its notes."""
    sizes = [len(truth.y) for truth in truths]
    columns = {"no_signal": np.repeat([answer.no_signal for answer in reconstructions], sizes)}
    for note in dict.fromkeys(name for answer in reconstructions for name in answer.notes):
        columns[note] = np.repeat([answer.notes.get(note, 0.0) for answer in reconstructions], sizes)
    return columns


def _check(truths: Sequence[Truth], reconstructions: Sequence[Reconstruction]) -> None:
    cases, answered = [truth.case for truth in truths], [answer.case for answer in reconstructions]
    if cases != answered:
        raise ValueError(f"the attack answered cases {answered}; {cases} were asked, in this order")
    for truth, answer in zip(truths, reconstructions, strict=True):
        if answer.x.shape != truth.x.shape or answer.y.shape != truth.y.shape:
            raise ValueError(
                f"case {truth.case}: the answer has shapes {answer.x.shape} and {answer.y.shape}, "
                f"the deleted records {truth.x.shape} and {truth.y.shape}"
            )
        if not (np.isfinite(answer.x).all() and np.isfinite(answer.y).all()):
            raise ValueError(f"case {truth.case}: the answer holds numbers that are not finite")


def _matched(truths: Sequence[Truth], reconstructions: Sequence[Reconstruction]) -> _Pairs:
    """Match each case's answers to its records; labels take no part in it."""
    orders = []
    for truth, answer in zip(truths, reconstructions, strict=True):
        likeness = _unit(truth.x) @ _unit(answer.x).T
        orders.append(linear_sum_assignment(-likeness)[1])
    return _Pairs(
        case=np.concatenate([np.full(len(truth.y), truth.case) for truth in truths]),
        target=np.concatenate([np.arange(len(truth.y)) for truth in truths]),
        x=np.concatenate([truth.x for truth in truths]).astype(np.float64),
        y=np.concatenate([truth.y for truth in truths]).astype(np.float64),
        found_x=np.concatenate([answer.x[order] for answer, order in zip(reconstructions, orders, strict=True)]),
        found_y=np.concatenate([answer.y[order] for answer, order in zip(reconstructions, orders, strict=True)]),
    )


def _unit(x: Array) -> Array:
    """Rows at length 1; a row of zeros stays, so that its cosine with anything is 0."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    unit: Array = np.divide(x, norm, out=np.zeros(x.shape), where=norm > 0)
    return unit


def _cosine(a: Array, b: Array) -> Array:
    """``[t]`` cosine of each row of ``a`` with the same row of ``b``."""
    product: Array = (_unit(a) * _unit(b)).sum(axis=1)
    return product


def _centred(x: Array, mean: Array) -> Array:
    """Rows less the public mean, at length 1; the mean itself, up to rounding, becomes zero."""
    off = x - mean
    size = np.linalg.norm(mean) + np.linalg.norm(x, axis=1)
    off[np.linalg.norm(off, axis=1) <= 1e-12 * size] = 0.0
    return _unit(off)


def _image_quality(x: Array, found: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """PSNR in dB (a perfect copy has what float64 resolves, 313 dB) and SSIM, both on [0, 1]."""
    true, guess = (np.clip(images, 0.0, 1.0).reshape(-1, *shape) for images in (x, found))
    with np.errstate(divide="ignore"):
        psnr = -10.0 * np.log10(((true - guess) ** 2).mean(axis=(1, 2, 3)))
    return {"psnr": np.minimum(psnr, _FINEST), "ssim": ssim(true, guess)}


def ssim(one: Array, other: Array) -> Array:
    """``[n]`` structural similarity of images ``[n, channels, height, width]`` on [0, 1] (Wang et al., 2004).

    Means over the whole image, mirrored at its edges. The window is the usual Gaussian of 11 x 11; that of images
    under 16 pixels, which it would not fit, is uniform and 7 x 7.
    """
    if min(one.shape[2:]) < 16:
        local = partial(uniform_filter, size=7, mode="mirror", axes=(2, 3))
    else:
        local = partial(gaussian_filter, sigma=1.5, truncate=3.5, mode="mirror", axes=(2, 3))
    mean, means = local(one), local(other)
    variances = np.maximum(local(one**2) - mean**2, 0.0) + np.maximum(local(other**2) - means**2, 0.0)
    covariance = local(one * other) - mean * means
    light = (2.0 * mean * means + _SMALL[0]) / (mean**2 + means**2 + _SMALL[0])
    found: Array = (light * (2.0 * covariance + _SMALL[1]) / (variances + _SMALL[1])).mean(axis=(1, 2, 3))
    return found


def _ranks(pairs: _Pairs, candidates: Array, mean: Array, rng: np.random.Generator) -> dict[str, Array]:
    """Rank of each true record among the candidates, as if it stood at a random place in their list."""
    chosen = rng.permutation(len(candidates))[: CANDIDATES - 1]
    others = _centred(np.asarray(candidates, np.float64)[chosen], mean)
    found = _centred(pairs.found_x, mean)
    own = (found * _centred(pairs.x, mean)).sum(axis=1, keepdims=True)
    margin = found @ others.T - own
    ties = (np.abs(margin) <= 1e-12).sum(axis=1)
    rank = 1 + (margin > 1e-12).sum(axis=1) + rng.integers(0, ties, endpoint=True)
    return {"rank": rank, "candidates": np.full(len(rank), len(chosen) + 1)}


def summarise(frame: pd.DataFrame, seconds: float, rng: np.random.Generator) -> dict[str, Any]:
    """The figures of one attack for ``results.json``.

    Each measure has its median, 10th and 90th percentile and ``_ci95``, the percentile interval of the median over
    resampled cases (the records of one deletion are no independent draws). What was not measured is absent.

    Args:
        frame: what ``score_attack`` returned, with at least one row.
        seconds: the attack took over all cases.
        rng: draws the resamples.
    """
    count = len(frame)
    draws = rng.integers(0, frame["case"].nunique(), (_RESAMPLES, frame["case"].nunique()))
    figures: dict[str, Any] = {"kind": "reconstruction", "n": count, "cases": int(frame["case"].nunique())}
    groups = frame.groupby("case", sort=False)
    places = groups.ngroup().to_numpy(), groups.cumcount().to_numpy()
    for name in _SPREADS:
        if name in frame:
            figures |= _spread(name, frame[name].to_numpy(np.float64), places, draws)
    if "label_correct" in frame:
        figures["label_accuracy"] = float(frame["label_correct"].mean())
    if "rank" in frame:
        figures["top1_of_1000"] = float((frame["rank"] == 1).mean())
        figures["candidates"] = int(frame["candidates"].iloc[0])
    figures["no_signal"] = int(frame["no_signal"].sum())
    if "sign_flipped" in frame:
        figures["sign_flips"] = int(frame.groupby("case")["sign_flipped"].first().sum())
    return {**figures, "seconds_per_record": seconds / count}


def _spread(name: str, values: Array, places: tuple[Array, Array], draws: Array) -> dict[str, Any]:
    """Median, percentiles and interval of one measure.

    Args:
        name: of the measure.
        values: ``[n]``.
        places: ``[n]`` the case of each, counted from 0, and its position in its case.
        draws: ``[resamples, cases]`` cases.
    """
    padded = np.full([1 + int(place.max()) for place in places], np.nan)
    padded[places] = values
    medians = np.concatenate([_medians(padded[some].reshape(len(some), -1)) for some in np.array_split(draws, 20)])
    low, high = np.percentile(medians, [2.5, 97.5])
    tenth, middle, ninetieth = np.percentile(values, [10, 50, 90])
    return {
        f"{name}_median": float(middle),
        f"{name}_p10": float(tenth),
        f"{name}_p90": float(ninetieth),
        f"{name}_ci95": [float(low), float(high)],
    }


def _medians(rows: Array) -> Array:
    """Median of each row, its padding left out."""
    middle: Array = np.nanmedian(rows, axis=1) if np.isnan(rows).any() else np.median(rows, axis=1)
    return middle
