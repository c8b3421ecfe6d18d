"""The figures of a run, one function a figure, drawn from what it left on disk.

A figure that does not apply is not drawn. One colour an attack in every figure; titles state what was found, computed
from the run.
"""

from pathlib import Path

import matplotlib as mpl

from palimpsest.simulator.figures.defense_price import price
from palimpsest.simulator.figures.forgetting import forgetting
from palimpsest.simulator.figures.gallery import gallery
from palimpsest.simulator.figures.inference import inference
from palimpsest.simulator.figures.knowledge import knowledge
from palimpsest.simulator.figures.privacy_tradeoff import tradeoff
from palimpsest.simulator.figures.similarity import cosine_cdf
from palimpsest.simulator.figures.style import (
    STYLE,
)
from palimpsest.simulator.figures.summary import summary
from palimpsest.simulator.figures.utility import utility
from palimpsest.simulator.results.run_directory import RunFiles


def draw_all(directory: Path) -> list[Path]:
    """Draw every figure that applies into ``figures/``; return their paths.

    Raises:
        RunFilesError: the directory holds no finished run.
    """
    run = RunFiles.open(directory)
    drawn: list[Path | None] = []
    with mpl.rc_context(STYLE):
        drawn += [summary(run), forgetting(run), inference(run), knowledge(run)]
        for variant in run.variants():
            drawn += [
                gallery(run, variant),
                cosine_cdf(run, variant),
                utility(run, variant),
                tradeoff(run, variant),
                price(run, variant),
            ]
    return [path for path in drawn if path is not None]


# --- words -----------------------------------------------------------------------------------------------------------
