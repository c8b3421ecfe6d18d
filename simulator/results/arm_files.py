"""One arm's files in the directory of its run: which lies where, written and read."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from palimpsest.simulator.results.answers import answer_names, save_answers
from palimpsest.simulator.results.reading import RunFilesError, content_of
from palimpsest.simulator.results.request_frame import frame
from palimpsest.simulator.results.requests import RequestResult
from palimpsest.simulator.results.schema import ArmResult, Round
from palimpsest.simulator.results.seals import SEAL, fault_of, file_digest, folder_digest, sealed
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.records import Reconstruction
from palimpsest.simulator.world.specs import ModelSpec

if TYPE_CHECKING:
    from palimpsest.attacks.session import Answer


_BESIDE = (
    ("scores", "parquet"),
    ("requests", "parquet"),
    ("forgetting", "parquet"),
    ("truth", "safetensors"),
    ("reconstructions", "safetensors"),
    ("rounds", "json"),
    ("models", "safetensors"),
    ("models", "json"),
)
"""Folders and endings of what an arm leaves beside its entry and its transcript."""
ARM_FOLDERS = tuple(dict.fromkeys(["arms", "transcripts", *(folder for folder, _ in _BESIDE)]))
"""Folders of a run's directory in which arms leave something."""


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

    def rows(self, places: NDArray[np.int64]) -> "Records":
        """The records at these places, in this order."""
        return Records(self.x[places], self.y[places], self.case[places])


@dataclass(frozen=True)
class ArmFiles:
    """One arm's files, written and read; a reader finds each whole or not at all.

    Attributes:
        run: path of the run's directory.
        arm: id of the arm.
    """

    run: Path
    arm: str

    @property
    def transcript(self) -> Path:
        """Directory of what the eavesdropper hears."""
        return self.run / "transcripts" / self.arm

    @property
    def scratch(self) -> Path:
        """Directory of what the training keeps on disk whose first arm this is, until its arms are done."""
        return self.run / "checkpoints" / self.arm

    @property
    def is_finished(self) -> bool:
        """Whether the arm is done: its results are written last."""
        return self._path("arms", "json").is_file()

    @property
    def is_begun(self) -> bool:
        """Whether something stands in the place of the arm's results, be it broken."""
        return os.path.lexists(self._path("arms", "json"))

    def finished_at(self) -> float:
        """When the arm was done, in seconds since 1970."""
        return self._path("arms", "json").stat().st_mtime

    def write_result(self, result: ArmResult, scenario: str = "") -> None:
        """Write the arm's entry of ``results.json`` with a seal on all of the arm's files; this finishes the arm.

        Args:
            result: of the arm.
            scenario: digest of the scenario that the run was begun with, see ``RunDirectory.begun_with``.
        """
        entry = sealed(result.to_json(), scenario, self._digests())
        write_atomically(self._made("arms", "json"), json.dumps(entry, allow_nan=False))

    def result(self) -> ArmResult:
        """The arm's entry of ``results.json``; the arm is finished.

        Raises:
            RunFilesError: the file is broken.
        """
        return ArmResult.read(self._path("arms", "json"))

    def fault(self, scenario: str, heard: bool = True) -> str:
        """What is wrong with a finished arm's files, in a clause that begins with a file's name; empty: nothing.

        Args:
            scenario: digest of the scenario that the run was begun with.
            heard: whether the transcript is looked at too.
        """
        path = self._path("arms", "json")
        name = f"{path.parent.name}/{path.name}"
        try:
            entry, result = content_of(path), self.result()
        except RunFilesError as error:
            return f"{name} is broken ({error})"
        if result.arm != self.arm:
            return f"{name} is of the arm {result.arm!r}"
        now = self._digests(heard)
        if not heard and isinstance(entry.get(SEAL), Mapping) and isinstance(entry[SEAL].get("files"), Mapping):
            now |= {key: value for key, value in entry[SEAL]["files"].items() if key == self._heard}
        why = fault_of(entry, scenario, now)
        return f"{name} {why}" if why else ""

    def clear(self) -> bool:
        """Remove all that the arm left, whatever stands in a file's place; whether there was anything."""
        places = [self.transcript, *(self._path(*place) for place in (("arms", "json"), *_BESIDE))]
        there = [place for place in places if os.path.lexists(place)]
        for place in there:
            shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
        return bool(there)

    @property
    def _heard(self) -> str:
        return f"transcripts/{self.arm}"

    def _digests(self, heard: bool = True) -> dict[str, str]:
        """Digests of what lies beside the arm's entry, by its name in the run's directory."""
        paths = {f"{folder}/{self.arm}.{ending}": self._path(folder, ending) for folder, ending in _BESIDE}
        found = {name: file_digest(path) for name, path in paths.items() if os.path.lexists(path)}
        if heard and self.transcript.is_dir():
            found[self._heard] = folder_digest(self.transcript)
        return found

    def write_scores(self, scores: pd.DataFrame) -> None:
        """Write a row for each attack and target."""
        self._write_frame("scores", scores)

    def scores(self) -> pd.DataFrame | None:
        """A row for each attack and target; None where nothing was scored."""
        return self._frame("scores")

    def write_requests(self, rows: Sequence[RequestResult]) -> None:
        """Write a row for each request."""
        self._write_frame("requests", frame(rows))

    def requests(self) -> pd.DataFrame | None:
        """A row for each request, with the columns of ``request_frame.frame``; None in runs of schema 1."""
        return self._frame("requests")

    def write_forgetting(self, rows: pd.DataFrame) -> None:
        """Write what was measured of the arm's models."""
        self._write_frame("forgetting", rows)

    def forgetting(self) -> pd.DataFrame:
        """What was measured of the arm's models: a row for each request and model (trained, unlearned, retrained)."""
        rows = self.forgetting_if_any()
        if rows is None:
            raise RunFilesError(f"{self._path('forgetting', 'parquet')} is not there")
        return rows

    def forgetting_if_any(self) -> pd.DataFrame | None:
        """The same; None where no request was completed, so that the run kept no table."""
        return self._frame("forgetting")

    def write_truth(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the deleted records: ``x``, ``y`` and ``case``, see ``Records``."""
        self._write_arrays("truth", arrays)

    def truth(self) -> Records | None:
        """The deleted records; None where the run kept none."""
        arrays = self._arrays("truth")
        return Records(arrays["x"], arrays["y"], arrays["case"]) if arrays else None

    def write_answers(self, answers: Mapping[str, "Answer"]) -> None:
        """Write what each attack answered, by its kind."""
        save_answers(self._made("reconstructions", "safetensors"), answers)

    def add_answers(self, answers: Mapping[str, "Answer"]) -> None:
        """Write what more attacks answered, beside those that are there."""
        path = self._made("reconstructions", "safetensors")
        save_answers(path, answers, beside=path.is_file())

    def reconstructions(self) -> dict[str, Records]:
        """What each attack that answers with records said, in the order of the file's names."""
        arrays = self._arrays("reconstructions")
        answered = answer_names(self._path("reconstructions", "safetensors")) if arrays else {}
        attacks = sorted(attack for attack, name in answered.items() if name == Reconstruction.name)
        return {
            attack: Records(arrays[f"{attack}/x"], arrays[f"{attack}/y"], arrays[f"{attack}/case"])
            for attack in attacks
        }

    def write_rounds(self, rounds: Sequence[Mapping[str, Any]]) -> None:
        """Write what was measured of each model, see ``Round``."""
        write_atomically(self._made("rounds", "json"), json.dumps(rounds))

    def rounds(self) -> list[Round]:
        """What was measured of each model of the server; empty where nothing was."""
        path = self._path("rounds", "json")
        return [Round.model_validate(line) for line in json.loads(path.read_text())] if path.is_file() else []

    def write_model(self, spec: ModelSpec, params: Mapping[str, NDArray[Any]]) -> None:
        """Write the first released model after an unlearning."""
        self._write_arrays("models", params)
        write_atomically(self._made("models", "json"), spec.model_dump_json())

    def model(self) -> tuple[ModelSpec, dict[str, NDArray[Any]]] | None:
        """The first released model after an unlearning, and what it is; None where the run kept none."""
        path = self._path("models", "json")
        return (ModelSpec.model_validate_json(path.read_text()), self._arrays("models")) if path.is_file() else None

    def _path(self, folder: str, ending: str) -> Path:
        return self.run / folder / f"{self.arm}.{ending}"

    def _made(self, folder: str, ending: str) -> Path:
        path = self._path(folder, ending)
        path.parent.mkdir(exist_ok=True)
        return path

    def _frame(self, folder: str) -> pd.DataFrame | None:
        path = self._path(folder, "parquet")
        if not path.is_file():
            return None
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:  # Arrow's own errors are both
            raise RunFilesError(f"{path} is no parquet file: {error}") from None

    def _write_frame(self, folder: str, frame: pd.DataFrame) -> None:
        write_atomically(self._made(folder, "parquet"), frame.to_parquet())

    def _write_arrays(self, folder: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        content = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
        write_atomically(self._made(folder, "safetensors"), content)

    def _arrays(self, folder: str) -> dict[str, NDArray[Any]]:
        path = self._path(folder, "safetensors")
        if not path.is_file():
            return {}
        try:
            arrays: dict[str, NDArray[Any]] = load_file(path)
        except SafetensorError as error:
            raise RunFilesError(f"{path} is no safetensors file: {error}") from None
        return arrays
