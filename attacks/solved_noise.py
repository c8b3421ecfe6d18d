"""What two noised solutions tell of a deleted record, and how noisily."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from palimpsest.attacks.known_noise import hyper_parameter, noise_of, release_noise
from palimpsest.attacks.linear import precise_model, public_blocks, released_gradient
from palimpsest.simulator.world.models.model import theta
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case

_CERTAINTY = 0.05
"""That of dp-statistics' bound on what noise takes from the least eigenvalue."""


@dataclass(frozen=True)
class SolvedNoise:
    """An observation of the pair of two solutions.

    Attributes:
        observed: ``[parameters]`` the change of the parameters, or what it says of the record's gradient.
        deviation: of the noise on each number: one, or ``[parameters]``.
        seen: ``[m, parameters]`` gradients -> what each would have the mean of ``observed`` be.
        penalised: ``[p + 1, p + 1]`` A, where ``observed`` is A^-1 times the gradient; None where it is the gradient.
    """

    observed: Array
    deviation: float | Array
    seen: Callable[[Array], Array]
    penalised: Array | None = None


def solved_noise(case: Case, knowledge: PublicKnowledge) -> SolvedNoise:
    """Of two ridge solutions in the parameters where noise was added to them, else of what left the gradient.

    With A the Gram matrix and lambda, growth of the regulariser included, A (Theta' - Theta) is the record's gradient
    -x~ r^T. ``dp-statistics`` noises it by N_1 Theta - N_2 Theta' and the moments' noise, so that each output's column
    has a deviation of its own. ``output-perturbation`` noises Theta and Theta': the gradient is seen as A^-1 times it.
    Of both, that of the statistics is added as it comes through A^-1, on each number by itself: correlations are left
    out.
    """
    before, after = theta(case.before), theta(case.after)
    if not precise_model(knowledge).squared:
        return _of_gradient(case, knowledge)
    gram = _gram(knowledge)
    added = math.hypot(_output_noise(knowledge), math.sqrt(2.0) * release_noise(knowledge))
    gram_noise, moment_noise, growth = _statistics_noise(knowledge, gram)
    penalised = gram + (knowledge.facts.model.regularisation + growth) * np.eye(len(gram))
    lengths = (before**2).sum(axis=0) + (after**2).sum(axis=0)
    columns = np.sqrt(gram_noise**2 * lengths + 2.0 * moment_noise**2)
    if added:
        inverse = np.linalg.inv(penalised)
        solved = np.linalg.norm(inverse, axis=1)[:, None] * columns
        through = partial(_through, penalised, shape=before.shape)
        return SolvedNoise(_rows(after - before), _rows(np.hypot(added, solved)), through, penalised)
    deviation = _rows(np.broadcast_to(columns, before.shape))
    return SolvedNoise(_rows(penalised @ (after - before)), deviation, lambda slopes: slopes)


def _of_gradient(case: Case, knowledge: PublicKnowledge) -> SolvedNoise:
    """Of other losses: the public Hessian takes the change to a gradient, and the noise as it takes noise there."""
    before, after = theta(case.before)[None], theta(case.after)[None]
    observed = -released_gradient(knowledge, before, after)[0]
    added = math.hypot(_output_noise(knowledge), math.sqrt(2.0) * release_noise(knowledge))
    probe = np.random.default_rng(0).standard_normal(before.shape)
    probe *= max(added, 1e-6)
    turned = released_gradient(knowledge, after + probe, after)[0]
    return SolvedNoise(_rows(observed), float(np.sqrt(np.mean(turned**2))) if added else 0.0, lambda slopes: slopes)


def _gram(knowledge: PublicKnowledge) -> Array:
    """``[p + 1, p + 1]`` of the private records, by the public sample; with ``rest`` exactly, but for the deleted."""
    if knowledge.rest is not None:
        phi = precise_model(knowledge).embed(torch.tensor(np.asarray(knowledge.rest.x, np.float64))).numpy()
        features = np.concatenate([phi, np.ones((len(phi), 1))], axis=1)
        exact: Array = features.T @ features
        return exact
    moments = [(phi.T @ phi).numpy() for phi, _ in public_blocks(knowledge, knowledge.facts.model.outputs)]
    estimated: Array = np.sum(moments, axis=0) * knowledge.facts.n / len(knowledge.x)
    return estimated


def _statistics_noise(knowledge: PublicKnowledge, gram: Array) -> tuple[float, float, float]:
    """Deviations of dp-statistics' noise on the Gram matrix and on the moment, and by how much lambda grew."""
    sigma = noise_of(knowledge, "dp-statistics")
    if not sigma:
        return 0.0, 0.0, 0.0
    bound, target = _bounds(knowledge, "dp-statistics")
    deviation, width = math.sqrt(3.0) * sigma * bound**2, len(gram)
    least = float(np.linalg.eigvalsh(gram)[0])
    surely = max(0.0, least - deviation * math.sqrt(2.0 * math.log(1.0 / _CERTAINTY)))
    reach = deviation * math.sqrt(width * math.log(2.0 * width**2 / _CERTAINTY))
    growth = max(0.0, reach - surely - knowledge.facts.model.regularisation)
    return deviation, math.sqrt(3.0) * sigma * bound * target, growth


def _output_noise(knowledge: PublicKnowledge) -> float:
    """Deviation of output-perturbation's noise on the difference of two solutions."""
    sigma = noise_of(knowledge, "output-perturbation")
    if not sigma:
        return 0.0
    bound, target = _bounds(knowledge, "output-perturbation")
    penalty, stop = knowledge.facts.model.regularisation, knowledge.facts.training.get("stop") or {}
    slope = math.sqrt(2.0) * bound
    if precise_model(knowledge).squared:
        slope = bound * target * (1.0 + bound * math.sqrt(knowledge.facts.n / penalty))
    tolerance = float(stop.get("gradient_norm", 0.0)) if knowledge.facts.algorithm == "lbfgs" else 0.0
    return math.sqrt(2.0) * sigma * (slope + 2.0 * tolerance) / penalty


def _bounds(knowledge: PublicKnowledge, kind: str) -> tuple[float, float]:
    """The longest that [features; 1] and the target of a record can be."""
    mapped, regression = knowledge.facts.model.features is not None, knowledge.facts.model.task == "regression"
    longest = math.sqrt(2.0) if mapped else hyper_parameter(knowledge, kind, "clip", 1.0)
    return math.hypot(longest, 1.0), hyper_parameter(knowledge, kind, "target_clip", 1.0) if regression else 1.0


def _rows(matrix: Array) -> Array:
    """``[p + 1, Q]`` as the parameters lie in a release: weights by output, then biases."""
    vector: Array = np.concatenate([matrix[:-1].T.ravel(), matrix[-1]])
    return vector


def _through(penalised: Array, slopes: Array, shape: tuple[int, ...]) -> Array:
    """``[m, parameters]`` A^-1 times each gradient."""
    width, outputs = shape
    weights = slopes[:, : (width - 1) * outputs].reshape(len(slopes), outputs, width - 1)
    whole = np.concatenate([weights, slopes[:, (width - 1) * outputs :, None]], axis=2).reshape(-1, width)
    solved = np.linalg.solve(penalised, whole.T).T.reshape(len(slopes), outputs, width)
    seen: Array = np.concatenate([solved[:, :, :-1].reshape(len(slopes), -1), solved[:, :, -1]], axis=1)
    return seen
