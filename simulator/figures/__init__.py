"""What people look at: the table of figures, which imports none of them.

To add one: write the file, add its card, write its test. Other packages announce one by the entry point
``palimpsest.figures``: a name, and ``module:function``. The function takes a finished run (``RunFiles``), draws into
its ``figures/``, and returns the path, or None where the figure does not apply.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from palimpsest.simulator.world.plugins import with_announced

ENTRY_POINTS = "palimpsest.figures"
_HERE = "palimpsest.simulator.figures"


@dataclass(frozen=True)
class FigureCard:
    """One line of the table.

    Attributes:
        target: ``"package.module:function"``; the function returns the path, or several; None where the figure does
            not apply.
        summary: what it shows, for ``palimpsest list``.
        applies: to which runs, in words.
        each: drawn once a run, or once a variant, whose name the function then takes too.
    """

    target: str
    summary: str
    applies: str
    each: Literal["run", "variant"] = "run"


_RECORDS = "attacks that answer with records"

CARDS: Mapping[str, FigureCard] = {
    "summary": FigureCard(
        target=f"{_HERE}.summary:summary",
        summary="what every attack got back after each way of unlearning",
        applies=_RECORDS,
    ),
    "forgetting": FigureCard(
        target=f"{_HERE}.forgetting:forgetting",
        summary="distance to retraining against client updates",
        applies="several reference retrainings",
    ),
    "inference": FigureCard(
        target=f"{_HERE}.inference:inference",
        summary="success of attacks that infer something else than records",
        applies="attacks that answer with something else than records",
    ),
    "knowledge": FigureCard(
        target=f"{_HERE}.knowledge:knowledge",
        summary="what attacks get back, by what they are granted to know",
        applies="variants that differ in one condition",
    ),
    "tiers": FigureCard(
        target=f"{_HERE}.tiers:tiers",
        summary="what each adversary gets back after each way of unlearning, by what it hears",
        applies="variants that differ in adversary.sees",
    ),
    "noise": FigureCard(
        target=f"{_HERE}.noise:noise",
        summary="how much noise stops every attack, how much is guaranteed to, and what either costs",
        applies="a defense whose noise grows in six steps or more, and none",
    ),
    "gallery": FigureCard(
        target=f"{_HERE}.gallery:gallery",
        summary="deleted records beside what attacks made of them",
        applies=f"{_RECORDS}, where records are kept",
        each="variant",
    ),
    "cosine-cdf": FigureCard(
        target=f"{_HERE}.similarity:cosine_cdf",
        summary="distribution of the cosine similarity of every attack",
        applies=_RECORDS,
        each="variant",
    ),
    "trajectory": FigureCard(
        target=f"{_HERE}.trajectory:trajectory",
        summary="the server's whole life: each request with who made it, utility, what attacks get, epsilon",
        applies="sequential requests",
        each="variant",
    ),
    "utility": FigureCard(
        target=f"{_HERE}.utility:utility",
        summary="utility by round, and after unlearning",
        applies="several releases of a training",
        each="variant",
    ),
    "tradeoff": FigureCard(
        target=f"{_HERE}.privacy_tradeoff:tradeoff",
        summary="how often attacks succeed, beside bounds, by epsilon",
        applies="a private defense at several epsilons",
        each="variant",
    ),
    "price": FigureCard(
        target=f"{_HERE}.defense_price:price",
        summary="what each defense leaves to an attack, and what it costs in utility",
        applies="several defenses and none",
        each="variant",
    ),
}
"""In the order in which they are drawn: those of a run, then those of each variant."""


def cards() -> dict[str, FigureCard]:
    """The figures there are: built-in ones, then those of other packages, drawn once a run. Imports none of them."""
    return with_announced(
        CARDS, ENTRY_POINTS, lambda point: FigureCard(point.target, point.of, "what the package says")
    )
