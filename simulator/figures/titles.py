"""What figures of a run say and where they go."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from palimpsest.simulator.results.run_directory import RunFiles, Setting
from palimpsest.simulator.results.verdicts import Arm, finding, phrase_of, reconstructions


def title_of(run: RunFiles, settings: Sequence[Setting], variant: str) -> str:
    text = finding([(phrase_of(setting.arms[0], run.arms), setting.arms) for setting in settings])
    return f"{variant}: {text[:1].lower()}{text[1:]}" if variant else text


def reconstructed(run: RunFiles, setting: Setting) -> bool:
    """Whether there are reconstructions to draw, and not of baselines alone."""
    return bool(reconstructions(setting.arms[0])) and len(run.scores(*setting.arms)) > 0


def seeds_of(settings: Sequence[Setting]) -> str:
    count = len(settings[0].arms)
    return f"{count} seeds together." if count > 1 else ""


def median_of(arms: Sequence[Arm], key: str) -> float | None:
    values = [value for arm in arms if (value := (arm.get("utility") or {}).get(key)) is not None]
    return float(np.median(values)) if values else None


def path_of(run: RunFiles, figure: str, variant: str) -> Path:
    return run.directory / "figures" / (f"{figure}-{variant}.png" if variant else f"{figure}.png")
