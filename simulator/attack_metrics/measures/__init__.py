"""The table of measures of reconstructions. To add one: write the file, add its card, write its test.

Other packages announce one by the entry point ``palimpsest.attack_measures``: a name, and ``module:MEASURE``, a
``Measure``. A measure is a column of an attack's scores under its own name, and figures of ``results.json``. Built-in
measures come first, in this order, so that what others draw at random changes none of them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from palimpsest.simulator.world.cards import MeasureCard
from palimpsest.simulator.world.plugins import imported, measure_cards

if TYPE_CHECKING:
    from palimpsest.simulator.attack_metrics.measures.measure import Measure

ENTRY_POINTS = "palimpsest.attack_measures"
_HERE = "palimpsest.simulator.attack_metrics.measures"


CARDS: Mapping[str, MeasureCard] = {
    "cosine": MeasureCard(f"{_HERE}.cosine:RAW", "cosine of reconstruction and deleted record, in [-1, 1]"),
    "cosine_centred": MeasureCard(f"{_HERE}.cosine:CENTRED", "the same less the public mean, which itself scores 0"),
    "mse": MeasureCard(f"{_HERE}.mse:MEASURE", "mean squared error over inputs"),
    "psnr": MeasureCard(f"{_HERE}.psnr:MEASURE", "peak signal-to-noise ratio of images in dB"),
    "ssim": MeasureCard(f"{_HERE}.ssim:MEASURE", "structural similarity of images, at most 1"),
    "target_error": MeasureCard(f"{_HERE}.label:ERROR", "absolute error of a regression's target"),
    "label_correct": MeasureCard(f"{_HERE}.label:CORRECT", "whether the class is right"),
    "rank": MeasureCard(f"{_HERE}.rank:RANK", "place of the deleted record among held-out ones, 1 is the most alike"),
    "candidates": MeasureCard(f"{_HERE}.rank:COUNT", "how many records it is ranked among"),
    "cosine_in_class": MeasureCard(f"{_HERE}.cosine:IN_CLASS", "cosine less the class's public mean, which scores 0"),
}


def cards() -> dict[str, MeasureCard]:
    """The measures there are: built-in ones, then those of other packages. Imports none of them."""
    return measure_cards(CARDS, ENTRY_POINTS)


def measures() -> "dict[str, Measure]":
    """The measures themselves, by name.

    Raises:
        RunFailure: one of another package cannot be imported, or is no ``Measure``.
    """
    from palimpsest.simulator.attack_metrics.measures.measure import Measure  # pandas, which listing does not need

    by_name = {}
    for name, card in cards().items():
        measure = imported(card.target, f"the measure {name!r} of reconstructions", Measure)
        assert isinstance(measure, Measure)  # or it would have been refused
        by_name[name] = measure
    return by_name
