"""The tables of what unlearned models are measured by. To add one: write the file, add its card, write its test.

Other packages announce theirs by entry points: a name, and ``module:MEASURE``, under ``palimpsest.unlearning_measures``
a ``Measure`` of single models, under ``palimpsest.unlearning_distances`` a ``Distance`` of two. Each is a column of
``forgetting/ARM.parquet``, and figures of ``results.json``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from palimpsest.simulator.world.cards import MeasureCard
from palimpsest.simulator.world.plugins import imported, measure_cards

if TYPE_CHECKING:
    from palimpsest.simulator.unlearning_metrics.measures.measure import Distance, Measure

MEASURES, DISTANCES = "palimpsest.unlearning_measures", "palimpsest.unlearning_distances"
"""The groups of entry points."""
_HERE = "palimpsest.simulator.unlearning_metrics.measures"


CARDS: Mapping[str, MeasureCard] = {
    "retained": MeasureCard(f"{_HERE}.retained:UTILITY", "utility on the clients' records that are left"),
    "worst_client": MeasureCard(f"{_HERE}.retained:WORST_CLIENT", "the lowest accuracy among clients"),
    "forget_loss": MeasureCard(f"{_HERE}.forgotten:LOSS", "mean loss on the forgotten records"),
    "forget_accuracy": MeasureCard(f"{_HERE}.forgotten:ACCURACY", "accuracy on the forgotten records"),
    "backdoor_success": MeasureCard(f"{_HERE}.backdoor:MEASURE", "share of triggered records taken for the target"),
    "utility": MeasureCard(f"{_HERE}.utility:MEASURE", "accuracy or R2 on the test records"),
    "f1_macro": MeasureCard(f"{_HERE}.f1:MACRO", "F1 on the test records, the mean over classes"),
    "f1_positive": MeasureCard(f"{_HERE}.f1:POSITIVE", "F1 on the test records of the second of two classes"),
    "r2": MeasureCard(f"{_HERE}.r2:MEASURE", "R2 on the test records of least squares on classes (one-hot targets)"),
    "membership_auc": MeasureCard(f"{_HERE}.membership:AUC", "area under the ROC of membership by loss"),
    "membership_tpr_at_1_percent": MeasureCard(
        f"{_HERE}.membership:AT_1_PERCENT", "true positive rate of membership at 1 % false positives"
    ),
    "membership_tpr_at_01_percent": MeasureCard(
        f"{_HERE}.membership:AT_01_PERCENT", "true positive rate of membership at 0.1 % false positives"
    ),
}
"""Of single models, in the order of the columns."""

DISTANCE_CARDS: Mapping[str, MeasureCard] = {
    "distance": MeasureCard(f"{_HERE}.distance:MEASURE", "Euclidean distance of the parameters to a retraining's"),
    "kl": MeasureCard(f"{_HERE}.kl:MEASURE", "symmetric divergence of the predictions from a retraining's"),
}
"""Of two models, in the order of the columns."""


def cards() -> dict[str, MeasureCard]:
    """All there are, of single models and of two: built-in ones, then those of other packages. Imports none of them."""
    return {
        **measure_cards(CARDS, MEASURES, taken=DISTANCE_CARDS),
        **measure_cards(DISTANCE_CARDS, DISTANCES, taken=CARDS),
    }


def measures() -> "dict[str, Measure]":
    """The measures of single models, by name.

    Raises:
        RunFailure: one of another package cannot be imported, or is no ``Measure``.
    """
    from palimpsest.simulator.unlearning_metrics.measures.measure import Measure  # torch, which listing does not need

    by_name = {}
    for name, card in measure_cards(CARDS, MEASURES, taken=DISTANCE_CARDS).items():
        measure = imported(card.target, f"the measure {name!r} of unlearned models", Measure)
        assert isinstance(measure, Measure)  # or it would have been refused
        by_name[name] = measure
    return by_name


def distances() -> "dict[str, Distance]":
    """The measures of two models, by name.

    Raises:
        RunFailure: one of another package cannot be imported, or is no ``Distance``.
    """
    from palimpsest.simulator.unlearning_metrics.measures.measure import Distance  # torch, which listing does not need

    by_name = {}
    for name, card in measure_cards(DISTANCE_CARDS, DISTANCES, taken=CARDS).items():
        measure = imported(card.target, f"the distance {name!r} of unlearned models", Distance)
        assert isinstance(measure, Distance)  # or it would have been refused
        by_name[name] = measure
    return by_name
