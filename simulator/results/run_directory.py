"""The directory that a finished run leaves, read for tables, figures and tracking."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from palimpsest.simulator.results.answers import answer_names
from palimpsest.simulator.results.verdicts import Arm, label_of
from palimpsest.simulator.world.records import Reconstruction


class RunFilesError(ValueError):
    """A directory is not what a finished run leaves."""


@dataclass(frozen=True)
class Records:
    """Records of the targets, true or reconstructed.

    Attributes:
        x: ``[n, d]`` in the model's input units.
        y: ``[n]`` classes or targets.
        case: ``[n]`` index of the deletion a record belongs to.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    case: NDArray[Any]

    def of_case(self, case: int) -> NDArray[Any]:
        """Rows of one deletion, in order."""
        return np.flatnonzero(self.case == case)


@dataclass(frozen=True)
class Setting:
    """Arms of one variant that differ by their seed only.

    Attributes:
        label: how the data were unlearned and defended, in a few words.
        arms: in the order of ``results.json``; figures of single records show the first.
    """

    variant: str
    label: str
    arms: tuple[Arm, ...]


class RunFiles:
    """Reads what a run left; nothing is cached but ``results.json``.

    Attributes:
        directory: of the run.
        results: content of ``results.json``.
    """

    def __init__(self, directory: Path, results: dict[str, Any]) -> None:
        self.directory = directory
        self.results = results

    @classmethod
    def open(cls, directory: Path) -> "RunFiles":
        """Read ``results.json``.

        Raises:
            RunFilesError: there is none, it is broken, or it has a schema that this version does not read.
        """
        path = directory / "results.json"
        try:
            results = json.loads(path.read_text())
        except FileNotFoundError:
            raise RunFilesError(f"{directory} holds no finished run: it has no results.json") from None
        except (OSError, ValueError) as error:
            raise RunFilesError(f"{path} cannot be read: {error}") from None
        if not isinstance(results, dict) or results.get("schema") != 1:
            found = results.get("schema") if isinstance(results, dict) else type(results).__name__
            raise RunFilesError(f"{path} has schema {found!r}; this version reads schema 1")
        return cls(directory, results)

    @property
    def arms(self) -> list[Arm]:
        """The arms of ``results.json``."""
        arms: list[Arm] = self.results["arms"]
        return arms

    def variants(self) -> list[str]:
        """Names of the variants, in order; one empty name where the scenario has none."""
        return list(dict.fromkeys(arm.get("variant", "") for arm in self.arms))

    def settings(self, variant: str) -> list[Setting]:
        """The arms of one variant, seeds together."""
        groups: dict[str, list[Arm]] = {}
        for arm in self.arms:
            if arm.get("variant", "") == variant:
                groups.setdefault(label_of(arm, self.arms), []).append(arm)
        return [Setting(variant, label, tuple(arms)) for label, arms in groups.items()]

    def scenario(self) -> dict[str, Any]:
        """The resolved scenario."""
        return tomllib.loads((self.directory / "scenario.toml").read_text())

    def scores(self, *arms: Arm) -> pd.DataFrame:
        """A row for each target and attack that answered with records; empty where none of these arms had one."""
        paths = [self.directory / "scores" / f"{arm['arm']}.parquet" for arm in arms]
        frames = [pd.read_parquet(path) for path in paths if path.is_file()]
        columns = ["attack", "case", "target", "cosine", "cosine_centred"]
        if not frames:
            return pd.DataFrame(columns=columns)
        rows = pd.concat(frames, ignore_index=True)
        return rows[rows["cosine"].notna()] if "cosine" in rows else pd.DataFrame(columns=columns)

    def forgetting(self, arm: Arm) -> pd.DataFrame:
        """What was measured of an arm's models: a row for each request and model (trained, unlearned, retrained)."""
        return pd.read_parquet(self.directory / "forgetting" / f"{arm['arm']}.parquet")

    def truth(self, arm: Arm) -> Records | None:
        """The deleted records of an arm; None where the run kept none."""
        arrays = self._arrays("truth", arm)
        return Records(arrays["x"], arrays["y"], arrays["case"]) if arrays else None

    def reconstructions(self, arm: Arm) -> dict[str, Records]:
        """What each attack that answers with records said, in the order of the file's names."""
        arrays = self._arrays("reconstructions", arm)
        path = self.directory / "reconstructions" / f"{arm['arm']}.safetensors"
        answered = answer_names(path) if arrays else {}
        attacks = sorted(attack for attack, name in answered.items() if name == Reconstruction.name)
        return {
            attack: Records(arrays[f"{attack}/x"], arrays[f"{attack}/y"], arrays[f"{attack}/case"])
            for attack in attacks
        }

    def rounds(self, arm: Arm) -> list[dict[str, Any]]:
        """What was measured at each release of the trunk; empty where nothing was."""
        path = self.directory / "rounds" / f"{arm['arm']}.json"
        if not path.is_file():
            return []
        measured: list[dict[str, Any]] = json.loads(path.read_text())
        return measured

    def _arrays(self, folder: str, arm: Arm) -> dict[str, NDArray[Any]]:
        path = self.directory / folder / f"{arm['arm']}.safetensors"
        if not path.is_file():
            return {}
        try:
            arrays: dict[str, NDArray[Any]] = load_file(path)
        except SafetensorError as error:
            raise RunFilesError(f"{path} is no safetensors file: {error}") from None
        return arrays
