"""What ``results.json`` says of an attack, by the kind of its answers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from palimpsest.simulator.results.entry import ArmEntry, Interval, Number


class AttackResult(ArmEntry):
    """The figures of one attack that every kind of answer has.

    Attributes:
        n: deleted records.
        cases: deletions.
        no_signal: of ``n`` (of ``cases``, where classes are answered), those for which the model did not change.
        seconds: over all deletions.
        peak_memory_bytes: how far memory rose; a lower bound.
        queries: to the model; None where the attack reads parameters.
    """

    kind: str
    n: int
    cases: int
    no_signal: int
    seconds: Number
    peak_memory_bytes: int
    queries: int | None = None

    def figure(self, name: str) -> Number | None:
        """A figure by its name in ``results.json``; None where this attack has none of that name."""
        value = getattr(self, name, None)
        return value if isinstance(value, int | float) else None


class Gain(ArmEntry):
    """How much more alike than a floor's answer the attack's is to the same record, the median; see ``gains``."""

    cosine: Number
    cosine_ci95: Interval | None = None
    cosine_centred: Number
    cosine_centred_ci95: Interval | None = None


class ReconstructionResult(AttackResult):
    """An attack that answered with records; cosines are to the deleted records, ``centred`` by the public mean.

    ``label_accuracy`` is None in regression, ``top1_of_1000`` and ``candidates`` where there are no test records.

    Attributes:
        resampled: what intervals are over. None where there are no intervals, and in older runs: deletions.
        label_prior: how often the commonest public class is right; None in regression and in older runs.
        gain_over: by the answer that read no model; empty for these themselves, and in older runs.
    """

    kind: Literal["reconstruction"]
    resampled: Literal["deletion", "record"] | None = None
    gain_over: dict[str, Gain] = Field(default_factory=dict)
    cosine_median: Number
    cosine_p10: Number
    cosine_p90: Number
    cosine_ci95: Interval | None = None
    cosine_centred_median: Number
    cosine_centred_p10: Number
    cosine_centred_p90: Number
    cosine_centred_ci95: Interval | None = None
    mse_median: Number
    label_accuracy: Number | None = None
    label_prior: Number | None = None
    top1_of_1000: Number | None = None
    candidates: int | None = None
    seconds_per_record: Number


class LabelsResult(AttackResult):
    """An attack that answered with classes; ``label_accuracy_prior`` is what the commonest public class scores."""

    kind: Literal["labels"]
    label_accuracy: Number
    label_accuracy_prior: Number
    class_accuracy: Number
    class_accuracy_ci95: Interval


class MatchingResult(AttackResult):
    """An attack that picked the deleted record out of ``candidates``."""

    kind: Literal["matching"]
    top1_of_1000: Number
    rank_median: Number
    candidates: int


class ScoresResult(AttackResult):
    """An attack that told deleted records from others.

    ``auc`` and what belongs to it are None where they are withheld: the attack has no power on the model before; its
    interval is None where deletions are too few for one. ``negatives`` are held-out records.
    """

    kind: Literal["scores"]
    negatives: int
    membership_auc_trained: Number
    membership_valid: bool
    auc: Number | None = None
    auc_ci95: Interval | None = None
    tpr_at_1_percent: Number | None = None
    tpr_at_1_percent_ci95: Interval | None = None
    withheld: str | None = None


class ProfileResult(AttackResult):
    """An attack that answered with a leaver's statistics; ``_prior`` is what the public sample's score."""

    kind: Literal["profile"]
    total_variation_median: Number
    total_variation_prior_median: Number
    total_variation_ci95: Interval
    count_error_median: Number
    count_error_prior_median: Number
    mean_likeness_median: Number
    mean_likeness_prior_median: Number
    column_error_median: Number
    column_error_prior_median: Number
    counts_covered: Number
    means_covered: Number
    columns_covered: Number


class OtherResult(AttackResult):
    """An attack whose kind of answer another package measures: what it said of its figures is kept beside them.

    Attributes:
        measured: what success is, short.
        chance: the success of somebody who saw no model.
        success: in [0, 1]; None where it is withheld, as are its interval and that of the model before.
        said: a clause of the verdict.
        measured_by: the package, with its version.
    """

    measured: str
    chance: Number
    success: Number | None = None
    success_ci95: Interval | None = None
    success_before: Number | None = None
    said: str
    measured_by: str


_KINDS = ("reconstruction", "labels", "matching", "scores", "profile")


def _kind_of(attack: Any) -> str:
    kind = attack.get("kind") if isinstance(attack, Mapping) else getattr(attack, "kind", None)
    return str(kind) if kind in _KINDS else "other"


AnyAttack: TypeAlias = Annotated[
    Annotated[ReconstructionResult, Tag("reconstruction")]
    | Annotated[LabelsResult, Tag("labels")]
    | Annotated[MatchingResult, Tag("matching")]
    | Annotated[ScoresResult, Tag("scores")]
    | Annotated[ProfileResult, Tag("profile")]
    | Annotated[OtherResult, Tag("other")],
    Discriminator(_kind_of),
]
"""One attack's figures, by the kind of its answers."""
