"""The figures of a run, drawn from what it left on disk.

A figure that does not apply is not drawn. One colour an attack in every figure; titles state what was found, computed
from the run.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import matplotlib as mpl

from palimpsest.simulator.figures import cards
from palimpsest.simulator.figures.style import STYLE
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.world.plugins import imported

OfRun = Callable[[RunFiles], Path | None]
OfVariant = Callable[[RunFiles, str], Path | Sequence[Path] | None]


def draw_all(directory: Path) -> list[Path]:
    """Draw every figure that applies into ``figures/``, of the arms that have scores; return their paths.

    Raises:
        RunFilesError: the directory holds no finished run.
        RunFailure: a figure of another package cannot be imported.
    """
    run = RunFiles.open(directory).scored
    of_run, of_variant = functions()
    if not run.arms:
        return []
    with mpl.rc_context(STYLE):
        drawn = [path for figure in of_run for path in _paths(figure(run))]
        drawn += [path for name in run.variants() for figure in of_variant for path in _paths(figure(run, name))]
    return drawn


def _paths(drawn: Path | Sequence[Path] | None) -> Iterator[Path]:
    """What a figure's function returned: one path, several, or none."""
    if drawn is not None:
        yield from [drawn] if isinstance(drawn, Path) else drawn


def functions() -> tuple[list[OfRun], list[OfVariant]]:
    """Import every figure: those drawn once a run, and those drawn for each variant.

    Raises:
        RunFailure: a figure of another package cannot be imported.
    """
    of_run: list[OfRun] = []
    of_variant: list[OfVariant] = []
    for name, card in cards().items():
        function = imported(card.target, f"the figure {name!r}")
        if card.each == "run":
            of_run.append(cast(OfRun, function))
        else:
            of_variant.append(cast(OfVariant, function))
    return of_run, of_variant
