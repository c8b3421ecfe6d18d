"""What noised releases tell of a deleted record: Gaussian observations of its gradient, whose covariance is known.

    observed = reading * gradient of the record, clipped as the defense clips it + N(0, deviation^2 I + rest^T rest)

A reading is 1, or as many Poisson coins as fell over the expected number. What all other records add is integrated by
the public sample, or taken off where the adversary is granted them (``rest``: all but those of any deletion).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.linalg import solve_triangular

from palimpsest.attacks.known_noise import RoundNoise, clipped_noise, release_noise, round_noise
from palimpsest.attacks.solved_noise import SolvedNoise, solved_noise
from palimpsest.attacks.whitening import gradients_of
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params

_NUMBERS, _MOST = 2_000_000, 100
"""Numbers in the gradients of the public records by which the rest is integrated, and these records, at most."""
_FLOOR = 0.02
"""Noise where none is known, over the root mean square of what is observed: nothing is exact to more than that."""
_TINY = 1e-300


@dataclass(frozen=True)
class Observation:
    """One noised reading.

    Attributes:
        observed: ``[parameters]`` float64, in the length of one reading.
        at: models whose mean gradient it was.
        clip: bound on a record's gradient; 0: none.
        deviation: of the noise on every number, above 0: one, or ``[parameters]``.
        rest: ``[f, parameters]`` F: other records add a covariance F^T F.
        readings, probability: ``[b]`` how often the record was read, and how probably.
        solved: where the models were solved for: what a record's gradient becomes before it is observed.
    """

    observed: Array
    at: tuple[Params, ...]
    clip: float
    deviation: float | Array
    rest: Array
    readings: Array
    probability: Array
    solved: SolvedNoise | None = None

    def precise(self, vectors: Array) -> Array:
        """``[..., parameters]`` multiplied by the inverse covariance."""
        scaled = vectors / self.deviation
        if not len(self.rest):
            product: Array = scaled / self.deviation
            return product
        factor = self.rest / self.deviation
        inner = np.eye(len(factor)) + factor @ factor.T
        taken: Array = (scaled - np.linalg.solve(inner, factor @ scaled.T).T @ factor) / self.deviation
        return taken

    def squares(self, vectors: Array) -> Array:
        """``[m]`` lengths squared of ``[m, parameters]`` in the metric of ``precise``."""
        scaled = vectors / self.deviation
        squares: Array = np.einsum("mp,mp->m", scaled, scaled)
        if len(self.rest):
            factor = self.rest / self.deviation
            root = np.linalg.cholesky(np.eye(len(factor)) + factor @ factor.T)
            squares -= (solve_triangular(root, factor @ scaled.T, lower=True) ** 2).sum(axis=0)
        return squares

    def gradients(self, model: Model, x: Array, y: Array) -> Array:
        """``[m, parameters]`` what each record would have the mean of the observation be, were it read once."""
        slopes = slopes_of(model, self.at, x, y)
        if self.solved is not None:
            return self.solved.seen(slopes)
        return clipped(slopes, self.clip)


def clipped(slopes: Array, clip: float) -> Array:
    """``[m, parameters]`` gradients, each cut to the length ``clip``; 0: as they are."""
    if not clip:
        return slopes
    cut: Array = slopes * np.minimum(1.0, clip / (np.linalg.norm(slopes, axis=1, keepdims=True) + 1e-6))
    return cut


def slopes_of(model: Model, at: Sequence[Params], x: Array, y: Array) -> Array:
    """``[m, parameters]`` gradients of single records' losses, on average over some models."""
    if not model.linear:
        slopes: Array = gradients_of(model, at, x, y).numpy() / len(at)
        return slopes
    kind = torch.int64 if model.spec.task == "classification" else torch.float64
    phi, labels = model.embed(torch.tensor(np.asarray(x, np.float64))), torch.tensor(np.asarray(y), dtype=kind)
    with torch.no_grad():
        residual = torch.stack([model.residual(model.head(model.tensors(one), phi), labels) for one in at]).mean(0)
    outer: Array = torch.cat([-(residual[:, :, None] * phi[:, None, :]).flatten(1), -residual], 1).numpy()
    return outer


def precise_of(knowledge: PublicKnowledge) -> Model:
    """The architecture in float64."""
    return model_of(knowledge.facts.model.model_copy(update={"dtype": "float64"}))


def observations(case: Case, knowledge: PublicKnowledge) -> Sequence[Callable[[], Observation]]:
    """All that the releases around one deletion tell of its records, each computed when it is asked for.

    The step on the records themselves (``identity``); the pair of two solutions; else every round that training and
    unlearning have in common: the difference of what they moved by, or, with ``rest`` and a single deletion, what the
    training moved by alone. Of several deletions each one's unlearning is read: the others' records, which ``rest``
    leaves out, are in both. Where nothing is in common, the change itself. Servers are taken to average: what momentum
    or adaptive steps made of a mean update is not undone.
    """
    facts = knowledge.facts
    if facts.operator == "identity":
        return [lambda: _of_a_step(case, knowledge, facts.step)]
    if facts.algorithm in ("lbfgs", "closed-form"):
        return [lambda: _of_solutions(case, knowledge)]
    rounds = len(case.trunk) - 1
    if rounds < 1:
        return [lambda: _of_a_step(case, knowledge, round_noise(knowledge).step)]
    return [partial(_of_a_round, case, knowledge, position) for position in range(rounds)]


def _of_a_step(case: Case, knowledge: PublicKnowledge, step: float) -> Observation:
    """Ascent: after - before = step * (sum of clipped gradients + noise); of several steps the noises add up."""
    sigma, clip = clipped_noise(knowledge, "dp-sgd")
    steps = knowledge.facts.unlearning.get("steps", 1)
    count = steps if isinstance(steps, int) and steps > 0 else 1
    deviation = np.hypot(sigma * clip / np.sqrt(count), np.sqrt(2.0) * release_noise(knowledge) / step)
    observed = _flat(precise_of(knowledge), case.after, case.before) / step
    return _observed(observed, (case.before,), clip, float(deviation), np.zeros((0, len(observed))))


def _of_solutions(case: Case, knowledge: PublicKnowledge) -> Observation:
    """The record's residual is that after the deletion where the Hessian is that of before, and the other way round."""
    known, at = solved_noise(case, knowledge), case.after if knowledge.rest is None else case.before
    return _observed(known.observed, (at,), 0.0, known.deviation, np.zeros((0, len(known.observed))), known)


def _observed(
    observed: Array,
    at: tuple[Params, ...],
    clip: float,
    deviation: float | Array,
    rest: Array,
    solved: SolvedNoise | None = None,
) -> Observation:
    """A reading that is certain."""
    return Observation(observed, at, clip, _floored(deviation, observed), rest, np.ones(1), np.ones(1), solved)


def _of_a_round(case: Case, knowledge: PublicKnowledge, position: int) -> Observation:
    """gone - kept, the moves of the two models, over the step: one reading of the record, and the noise of both."""
    model, noise = precise_of(knowledge), round_noise(knowledge)
    steps = len(noise.readings) > 1 or not _one_step(knowledge)
    here, there = (_path(models, position, steps) for models in (case.trunk, case.branch))
    kept = _flat(model, case.trunk[position + 1], case.trunk[position])
    gone = _flat(model, case.branch[position + 1], case.branch[position])
    leavers = 0.0 if noise.fixed_weights else case.size / max(1, knowledge.facts.n)
    pull = knowledge.facts.model.regularisation  # what l2 adds to every step, over the step
    lean = pull * (_flat(model, case.trunk[position]) - _flat(model, case.branch[position]))
    if knowledge.rest is not None and len(knowledge.facts.cases) < 2:
        alone = pull * _flat(model, case.trunk[position])
        slopes = _slopes(model, here, knowledge.rest.x, knowledge.rest.y, noise.clip)
        step = noise.step * _shrunk(slopes.sum(axis=0), knowledge, noise)
        observed = -kept / step - slopes.sum(axis=0) - alone
        factor, deviation = np.sqrt(noise.coins) * slopes, noise.deviation * noise.step / step
    else:
        sums = [_others(model, models, knowledge, noise.clip) for models in (here, there)]
        count, n = len(sums[0]), knowledge.facts.n
        unknown = n if knowledge.rest is None else max(0, n - count)
        step = noise.step * _shrunk(sums[0].sum(axis=0) * n / count, knowledge, noise)
        drift = sums[0] - sums[1]
        observed = ((1.0 - leavers) * gone - kept) / step - drift.mean(axis=0) * n - lean
        spread = np.sqrt((unknown + unknown**2 / count) / count) * (drift - drift.mean(axis=0))
        factor = np.concatenate([spread, np.sqrt(2.0 * noise.coins * n / count) * sums[0]])
        deviation = np.sqrt(2.0) * noise.deviation * noise.step / step
    factor = factor[np.abs(factor).sum(axis=1) > 0.0]
    return Observation(
        observed, here, noise.clip, _floored(deviation, observed), factor, noise.readings, noise.probability
    )


def _one_step(knowledge: PublicKnowledge) -> bool:
    """Whether a round is a single step from its first model."""
    training, facts = knowledge.facts.training, knowledge.facts
    if facts.algorithm == "fedsgd" or training["local_steps"] == 1:
        return True
    share = facts.n / (facts.clients or training["clients_per_round"] or 1)
    return bool(training["local_epochs"] == 1 and not training["local_steps"] and training["batch_size"] >= share)


def _path(models: Sequence[Params], position: int, steps: bool) -> tuple[Params, ...]:
    """Where a round's gradients were taken: at its first model, after several steps halfway to its last on average."""
    return (models[position], models[position + 1]) if steps else (models[position],)


def _slopes(model: Model, at: Sequence[Params], x: Array, y: Array, clip: float) -> Array:
    return clipped(slopes_of(model, at, x, y), clip)


def _others(model: Model, at: Sequence[Params], knowledge: PublicKnowledge, clip: float) -> Array:
    """``[m, parameters]`` what some public records would add; what those do that are known, where some are."""
    if knowledge.rest is not None:
        return _slopes(model, at, knowledge.rest.x, knowledge.rest.y, clip)
    count = max(2, min(_MOST, len(knowledge.x), _NUMBERS // model.size))
    return _slopes(model, at, knowledge.x[:count], knowledge.y[:count], clip)


def _shrunk(total: Array, knowledge: PublicKnowledge, noise: RoundNoise) -> float:
    """By how much a client's update is cut, were all clients' the same: the length is that of their mean's."""
    if not noise.update_clip:
        return 1.0
    length = noise.step * float(np.linalg.norm(total))  # the mean update: a step along the sum over all records
    return min(1.0, noise.update_clip / max(length, _TINY))


def _flat(model: Model, params: Params, less: Params | None = None) -> Array:
    """``[parameters]`` float64, of one model or of the change from another to it."""
    parts = [
        np.asarray(params[name], np.float64).ravel() - (0.0 if less is None else np.asarray(less[name]).ravel())
        for name in model.names
    ]
    vector: Array = np.concatenate(parts)
    return vector


def _floored(deviation: float | Array, observed: Array) -> float | Array:
    """At least a small share of what is observed: likelihoods of exact readings would be infinite."""
    least = _FLOOR * float(np.sqrt(np.mean(observed**2))) + _TINY
    return np.maximum(deviation, least) if isinstance(deviation, np.ndarray) else max(deviation, least)


def by_round(cases: Sequence[Case], knowledge: PublicKnowledge) -> Iterator[tuple[Case, Observation]]:
    """Every observation of every case, those of one round after one another: they often share the model before."""
    told = [observations(case, knowledge) for case in cases]
    with torch.no_grad():
        for position in range(max((len(each) for each in told), default=0)):
            for case, each in zip(cases, told, strict=True):
                if position < len(each):
                    yield case, each[position]()
