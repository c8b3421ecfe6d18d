"""What a measure of unlearned models is, and what it may look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from palimpsest.simulator.unlearning_metrics.evaluation import Evaluated
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import Array, Params


@dataclass(frozen=True)
class Retained:
    """How models do on the judged clients' records that a request leaves.

    Attributes:
        utility: ``[models]`` accuracy, or R^2 for regression; NaN where nothing is left.
        left: ``[clients]`` how many records are; empty for regression.
        right: ``[models, clients]`` how many of them are classified rightly; empty for regression.
    """

    utility: Array
    left: Array
    right: Array


@dataclass(frozen=True)
class Observed:
    """Some models as they stand for one request; the first axis of every array is the models'.

    Attributes:
        case: what was processed.
        model: the architecture.
        models: parameters of each.
        forgotten: what they say of the records that they were to forget.
        retained: how they do on the records that are left.
        test: what they say of the test records; None without any.
        held_out: how many test records there are.
        ranks: ``[models, k]`` of each forgotten record the share of test records with a higher loss; None without any.
        backdoor: ``[models]`` share of triggered test records taken for the target; None where none was planted.
    """

    case: UnlearningCase
    model: Model
    models: Sequence[Params]
    forgotten: Evaluated
    retained: Retained
    test: Evaluated | None
    held_out: int
    ranks: Array | None
    backdoor: Array | None

    @property
    def classifies(self) -> bool:
        """Whether the models tell classes."""
        return self.model.spec.task == "classification"


@dataclass(frozen=True)
class Portrait:
    """One model as it was measured for one request.

    Attributes:
        params: its parameters.
        measured: the figures that need no other model.
        ranks: of the records that it was to forget (see ``Observed``); None without test records.
        scores: ``[n, outputs]`` of the test records, where they stand for probabilities; else None.
    """

    params: Params
    measured: dict[str, float]
    ranks: Array | None
    scores: Array | None


@dataclass(frozen=True)
class Measure:
    """A figure of a single model.

    Attributes:
        values: ``[models]``, NaN where it is not defined; None where it does not apply.
        entry: of ``results.json`` that it belongs to.
        pool: how the requests of an arm become one figure: ``records`` is the mean weighted by their records.
    """

    values: Callable[[Observed], Array | None]
    entry: Literal["utility", "forgetting"] = "forgetting"
    pool: Literal["median", "mean", "records"] = "mean"


@dataclass(frozen=True)
class Distance:
    """A figure of a model beside a retraining: ``NAME_to_retrained`` of ``forgetting``, the median over requests.

    Attributes:
        between: two models; None where it does not apply.
    """

    between: Callable[[Portrait, Portrait], float | None]
