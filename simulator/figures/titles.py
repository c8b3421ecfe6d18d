"""What figures of a run say and where they go."""

from collections.abc import Callable, Sequence

import numpy as np

from palimpsest.simulator.results.run_directory import RunFiles, SettingOfArms
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.unlearning_results import Utility
from palimpsest.simulator.results.verdicts import finding, label_of, phrase_of, reconstructions


def title_of(run: RunFiles, settings: Sequence[SettingOfArms], variant: str) -> list[str]:
    """What was found of a variant, in three lengths: a figure takes the first that fits.

    Returns:
        1. Ways of unlearning are named in words.
        2. The same words, but several ways are counted instead of named.
        3. As the second, but ways that are named are named by their labels.
    """
    phrases, labels = (
        [(words(setting.arms[0], run.arms), setting.arms) for setting in settings] for words in (phrase_of, label_of)
    )
    said = finding(phrases), finding(phrases, brief=True), finding(labels, brief=True)
    return [of_variant(text, variant) for text in said]


def of_variant(text: str, variant: str) -> str:
    """A title that says which variant it is about."""
    return f"{variant}: {text[:1].lower()}{text[1:]}" if variant else text


def reconstructed(run: RunFiles, setting: SettingOfArms) -> bool:
    """Whether there are reconstructions to draw, and not of baselines alone."""
    return bool(reconstructions(setting.arms[0])) and len(run.scores(*setting.arms)) > 0


def seeds_of(settings: Sequence[SettingOfArms]) -> str:
    count = len(settings[0].arms)
    return f"{count} seeds together." if count > 1 else ""


def metric_of(arms: Sequence[ArmResult]) -> str:
    """What the utility of these arms is; ``utility`` where none was measured."""
    return next((arm.utility.unit for arm in arms if arm.utility is not None), "utility")


def median_of(arms: Sequence[ArmResult], figure: Callable[[Utility], float | None]) -> float | None:
    """The median of a figure of utility; None where no arm has one."""
    values = [value for arm in arms if arm.utility is not None and (value := figure(arm.utility)) is not None]
    return float(np.median(values)) if values else None
