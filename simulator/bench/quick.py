"""A minute's look at speed: ratios to loops of the same run, and whether they have fallen.

Updates a second depend on the machine and on what else it does; ratios to loops that take turns hardly do.
"""

from collections.abc import Mapping, Sequence

from palimpsest.simulator.bench.table import CONTESTANTS, BenchLine
from palimpsest.simulator.results.provenance import git_commit

SIZE = (300, 300)
"""Population and cohort."""
ROUNDS = 3
WITHOUT = "plain flower"
"""It takes longer than all others together."""

RECORDED: Mapping[tuple[str, str], float] = {
    ("softmax", "hand-batched"): 0.74,
    ("softmax", "vmap loop"): 1.92,
    ("softmax", "torch loop"): 4.42,
    ("mlp", "hand-batched"): 0.88,
    ("mlp", "vmap loop"): 1.78,
    ("mlp", "torch loop"): 2.76,
    ("cnn", "hand-batched"): 0.88,
    ("cnn", "vmap loop"): 1.00,
    ("cnn", "torch loop"): 3.14,
}
"""Palimpsest's speed over a contestant's, by model and contestant: medians of three quiet runs; docs/performance.md."""
FALLEN = 0.5
"""A ratio below this part of what is recorded is no chance."""


def ratios(lines: Sequence[BenchLine]) -> dict[tuple[str, str], float]:
    """Palimpsest's updates a second over those of each other contestant, by model and contestant."""
    ours = {line.kind: line.updates for line in lines if line.contestant == CONTESTANTS[0]}
    return {
        (line.kind, line.contestant): ours[line.kind] / line.updates
        for line in lines
        if line.contestant != CONTESTANTS[0]
    }


def row(found: Mapping[tuple[str, str], float]) -> str:
    """The ratios as a row of the table in docs/performance.md."""
    cells = [(git_commit() or "no checkout")[:9], *(f"{found[key]:.2f}" for key in RECORDED if key in found)]
    return f"| {' | '.join(cells)} |"


def better(
    first: Mapping[tuple[str, str], float], second: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    """The higher of two measurements of each ratio; the second may be of some models alone."""
    return {key: max(ratio, second.get(key, 0.0)) for key, ratio in first.items()}


def fallen(found: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], str]:
    """A sentence for each ratio that is below half of what is recorded, by model and contestant."""
    return {
        (kind, contestant): (
            f"{kind}: {ratio:.2f} of the speed of {contestant}, and {RECORDED[kind, contestant]:.2f} is recorded"
        )
        for (kind, contestant), ratio in found.items()
        if ratio < FALLEN * RECORDED.get((kind, contestant), 0.0)
    }
