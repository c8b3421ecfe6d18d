"""An arm's files in the directory of its run: all that figures, reports and tracking draw from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save

from palimpsest.attacks.session import Answer
from palimpsest.simulator.experiment.assessed import Assessed
from palimpsest.simulator.experiment.attacked import Attacked
from palimpsest.simulator.experiment.served import Served
from palimpsest.simulator.results.answers import save_answers
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import ModelSpec


@dataclass(frozen=True)
class ArmFiles:
    """Where one arm leaves what, and the only writer of it.

    Attributes:
        directory: of the run; exists.
        arm: id of the arm.
    """

    directory: Path
    arm: str

    @property
    def transcript(self) -> Path:
        """Directory of what the eavesdropper hears."""
        return self.directory / "transcripts" / self.arm

    @property
    def ledger(self) -> Path:
        """File of the run's erasure ledger."""
        return self.directory / "ledger.jsonl"

    def write(self, spec: ModelSpec, served: Served, attacked: Attacked, assessed: Assessed) -> None:
        """Write what was served, attacked and assessed; what is empty leaves no file, but for answers and rounds."""
        for folder in ("scores", "reconstructions", "truth", "rounds", "models"):
            (self.directory / folder).mkdir(exist_ok=True)
        if len(assessed.scores):
            self._frame("scores", assessed.scores)
        self._answers(attacked.answers)
        if served.processed:
            self._arrays("truth", assessed.truth)
            self._arrays("models", served.processed[0].released)
            write_atomically(self._path("models", "json"), spec.model_dump_json())
            self._frame("forgetting", assessed.forgetting)
        write_atomically(self._path("rounds", "json"), json.dumps(assessed.rounds))

    def _path(self, folder: str, ending: str) -> Path:
        place = self.directory / folder
        place.mkdir(exist_ok=True)
        return place / f"{self.arm}.{ending}"

    def _answers(self, answers: Mapping[str, Answer]) -> None:
        save_answers(self._path("reconstructions", "safetensors"), answers)

    def _frame(self, folder: str, frame: pd.DataFrame) -> None:
        path = self._path(folder, "parquet")
        draft = path.with_name(f".{path.name}")
        frame.to_parquet(draft)
        draft.replace(path)

    def _arrays(self, folder: str, arrays: Mapping[str, Array]) -> None:
        content = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
        write_atomically(self._path(folder, "safetensors"), content)
