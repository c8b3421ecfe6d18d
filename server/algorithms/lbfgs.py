"""Federated L-BFGS to convergence, of many convex models at once.

Each model's optimiser is a coroutine that asks for the objective's gradient at a point; the driver collects what all of
them ask, has the clients answer in one message, and hands the answers back. So a model's path depends on its own
gradients alone, whoever is optimised beside it.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg.blas import daxpy

from palimpsest.server.aggregation import solved
from palimpsest.server.algorithms.perturbation import drawn
from palimpsest.server.algorithms.step import Step
from palimpsest.server.blocks import add_up, everyone
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.errors import SettledFailure
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.records import Array, Params

MEMORY = 100
"""Pairs that the inverse Hessian is built from: a small one needs more than twice the gradients where records are fewer
than parameters."""

_TOGETHER = 2**30
"""Bytes of such pairs that are held at once."""


class NotConvergedError(SettledFailure):
    """The optimiser stopped short of the gradient norm that was asked for."""


Query = Generator[Array, tuple[float, Array], Array]

Pair = tuple[Array, Array, float]
"""A step s, the gradient's change y along it, and s^T y."""


def minimise(start: Array, tolerance: float, max_evaluations: int) -> Query:
    """L-BFGS (Nocedal and Wright, algorithm 7.5) with a weak Wolfe line search, as a coroutine.

    Yields points; is sent (objective, gradient) there; returns the minimiser.

    Raises:
        NotConvergedError: the gradient's norm is above ``tolerance`` after ``max_evaluations``, or the line search
            found no decrease that float64 can resolve.
    """
    point, pairs = start, deque[Pair](maxlen=MEMORY)
    value, gradient = yield point
    used = 1
    while np.linalg.norm(gradient) > tolerance:
        direction = -_inverse_hessian_times(gradient, pairs)
        slope = float(gradient @ direction)
        step, low, high = 1.0 if pairs else 1.0 / float(np.linalg.norm(gradient)), 0.0, np.inf
        while True:
            if used >= max_evaluations or high - low < 1e-14:
                norm = np.linalg.norm(gradient)
                raise NotConvergedError(
                    f"lbfgs stopped after {used} evaluations at a gradient norm of {norm:.1e}, above {tolerance:.1e}: "
                    "raise training.stop.max_evaluations, training.stop.gradient_norm or the regulariser"
                )
            trial = point + step * direction
            trial_value, trial_gradient = yield trial
            used += 1
            # Near the optimum the objective's change drowns in rounding; the gradient still tells.
            noise = 1e-13 * max(1.0, abs(value))
            if trial_value > value + 1e-4 * step * slope + noise:
                high = step
            elif float(trial_gradient @ direction) < 0.9 * slope:
                low = step
            else:
                break
            step = 2.0 * step if high == np.inf else 0.5 * (low + high)
        moved, bent = trial - point, trial_gradient - gradient
        pairs.append((moved, bent, float(moved @ bent)))
        point, value, gradient = trial, trial_value, trial_gradient
    return point


def rounds(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], federation: Federation
) -> Iterator[Step]:
    """Yield the converged models (and, where asked for, the iterates that were broadcast on the way)."""
    together = max(1, _TOGETHER // (2 * MEMORY * model_of(setup.spec).bytes))
    for begin in range(0, len(lineages), together):
        some = slice(begin, begin + together)
        for step in _solved(setup, lineages[some], starts[some], federation):
            yield replace(step, lineages=[begin + i for i in step.lineages])


def _solved(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], federation: Federation
) -> Iterator[Step]:
    """The same of as many lineages as are held at once."""
    model = model_of(setup.spec)
    blocks = everyone(setup, lineages)
    searches = [
        minimise(_flatten(start, model.names), setup.plan.gradient_norm, setup.plan.max_evaluations) for start in starts
    ]
    slopes = [_flatten(drawn(setup, lineage.perturbation), model.names) for lineage in lineages]
    perturbed = setup.plan.perturbation > 0.0
    asked = {i: next(search) for i, search in enumerate(searches)}
    solutions: dict[int, Array] = {}
    while asked:
        waiting = sorted(asked)
        positions = {i: position for position, i in enumerate(waiting)}
        models = [_unflatten(asked[i], model.names, model.shapes) for i in waiting]
        if setup.keep_working:
            yield Step(waiting, models, 1, phase="working")
        mine = [replace(block, model=positions[block.model]) for block in blocks if block.model in positions]
        totals = add_up(mine, federation.stream(Gradient(setup.spec, mine, models)), len(waiting))
        for i, total in zip(waiting, totals, strict=True):
            if total is None:
                raise ValueError("training needs at least one client")
            point = asked.pop(i)
            penalty = setup.spec.regularisation
            value = total.metrics["loss"] + 0.5 * penalty * float(point @ point)
            gradient = _flatten(total.sums, model.names) + penalty * point
            if perturbed:
                value, gradient = value + float(slopes[i] @ point), gradient + slopes[i]
            try:
                asked[i] = searches[i].send((value, gradient))
            except StopIteration as done:
                solutions[i] = done.value
    order = sorted(solutions)
    optima = [_unflatten(solutions[i], model.names, model.shapes) for i in order]
    yield Step(
        order,
        [
            solved(setup, lineages[i].branch, lineages[i].forget, lineages[i].noise, optimum)
            for i, optimum in zip(order, optima, strict=True)
        ],
        1,
    )


def _inverse_hessian_times(gradient: Array, pairs: Sequence[Pair]) -> Array:
    """The two-loop recursion, in place: moving memory is what takes its time."""
    q, weights = gradient.copy(), []
    for s, y, curvature in reversed(pairs):
        weight = float(s @ q) / curvature
        weights.append(weight)
        daxpy(y, q, a=-weight)
    if pairs:
        _, y, curvature = pairs[-1]
        q *= curvature / float(y @ y)
    for (s, y, curvature), weight in zip(pairs, reversed(weights), strict=True):
        daxpy(s, q, a=weight - float(y @ q) / curvature)
    return q


def _flatten(params: Params, names: Sequence[str]) -> Array:
    return np.concatenate([np.asarray(params[name], np.float64).ravel() for name in names])


def _unflatten(vector: Array, names: Sequence[str], shapes: dict[str, tuple[int, ...]]) -> Params:
    params, begin = {}, 0
    for name in names:
        size = int(np.prod(shapes[name]))
        params[name] = vector[begin : begin + size].reshape(shapes[name])
        begin += size
    return params
