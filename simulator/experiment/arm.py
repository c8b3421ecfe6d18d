"""One arm: its server unlearns, its transcript goes to the adversary, and ground truth meets the answers."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save

from palimpsest.attacks.session import Answer, attack_transcript
from palimpsest.server.history import History
from palimpsest.server.ledger import Ledger
from palimpsest.server.session import Processed, Session
from palimpsest.simulator.attack_metrics.bounds import THRESHOLDS, bounds, spans_of
from palimpsest.simulator.attack_metrics.challenge import Posed, pose
from palimpsest.simulator.attack_metrics.reconstruction import Truth
from palimpsest.simulator.attack_metrics.score import Mark, Material, mark
from palimpsest.simulator.experiment.knowledge import conditions, knowledge_of
from palimpsest.simulator.experiment.training import Trunk
from palimpsest.simulator.planning.plan import Arm, plan
from palimpsest.simulator.planning.privacy import Meter, Treasurer, privacy_entry
from palimpsest.simulator.results.answers import save_answers
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.unlearning_metrics.compare import Ended
from palimpsest.simulator.unlearning_metrics.costs import cost
from palimpsest.simulator.unlearning_metrics.evaluation import Judge, distance
from palimpsest.simulator.unlearning_metrics.relearning import relearned
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.privacy.noise import noise_of
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import Transcript, TranscriptWriter
from palimpsest.simulator.world.records import Array, Params, Release
from palimpsest.simulator.world.seeding import generator


@dataclass
class ArmRun:
    """Runs one arm in a run's directory.

    Attributes:
        directory: of the run.
        scenario: what the user wrote.
        arm: which combination this is.
        trunk: the trained model that it branches from.
    """

    directory: Path
    scenario: Scenario
    arm: Arm
    trunk: Trunk

    def run(self) -> dict[str, Any]:
        """Unlearn, attack, score; return this arm's entry of ``results.json``."""
        federation = self.trunk.ground.federation(self.trunk.grid, self.arm.id)
        history = self.trunk.history.under(federation)
        processed, seconds = self._serve(history)
        posed = self._challenge(processed)
        knowledge = replace(self._knowledge(processed), challenge=None if posed is None else posed.challenge)
        knowledge.save(self._transcript)
        answers = attack_transcript(self._transcript, self.arm.attacks, seed=self.arm.seed)
        population = self.trunk.ground.population
        public = replace(knowledge, x=np.asarray(population.public_x, np.float64), y=np.asarray(population.public_y))
        marks = self._marks(processed, answers, public, posed)
        self._keep(processed, answers, marks)
        worth, utilities = self._worth(processed)
        return {
            "arm": self.arm.id,
            "variant": self.arm.setting.variant,
            "unlearning": self.arm.unlearning.model_dump(mode="json"),
            "defense": self.arm.defense.model_dump(mode="json"),
            "seed": self.arm.seed,
            "data": self._data(),
            "deletion": {
                "level": self.arm.setting.deletion.level,
                "records": max(r.size for r in self.trunk.ground.requests),
            },
            "conditions": conditions(self.arm, self.trunk.ground),
            "requests": {"made": len(self.trunk.ground.requests), "completed": len(processed)},
            "transcript_digest": Transcript.open(self._transcript).digest(),
            **worth,
            "attacks": {kind: marked.figures for kind, marked in marks.items() if processed},
            "privacy": self._privacy(history.setup.account, processed)
            | self._bounds(history, processed, marks, public),
            "notes": _notes(processed),
            "cost": cost(
                federation.costs,
                seconds,
                self.trunk.history.stored_for(self.arm.unlearning.needs),
                self.trunk.reference,
                utilities,
            ),
        }

    @property
    def _transcript(self) -> Path:
        return self.directory / "transcripts" / self.arm.id

    @cached_property
    def _model(self) -> Model:
        return model_of(self.trunk.ground.setup.spec)

    @cached_property
    def _treasurer(self) -> Treasurer:
        privacy = self.scenario.privacy
        return Treasurer(Meter(privacy.delta, privacy.accountant), privacy.budget)

    def _privacy(self, account: Account, processed: Sequence[Processed]) -> dict[str, Any]:
        """What differential privacy was spent; that noise came from the operating system is said where it did."""
        setup = self.trunk.ground.setup
        entry = privacy_entry(account, self._treasurer, processed)
        if setup.private:
            entry["noise"] = "system: this run cannot be repeated" if setup.secure_noise else "seeded"
            entry["amplified_by_client_sampling"] = setup.amplified and account.unit == "client"
        return entry

    def _bounds(
        self,
        history: History,
        processed: Sequence[Processed],
        marks: dict[str, Mark],
        knowledge: PublicKnowledge,
    ) -> dict[str, Any]:
        """How often attacks may succeed; absent where labels or clients are granted: the prior is another one then."""
        if not processed or self.arm.setting.adversary.knows:
            return {}
        public = np.asarray(self.trunk.ground.population.public_x, dtype=np.float64)
        spans = spans_of(history.setup.account, processed, history.setup.plan.algorithm in ("lbfgs", "closed-form"))
        scores = {kind: marked.frame for kind, marked in marks.items()}
        comparisons = len(plan(self.scenario).arms) * len(scores) * (1 + len(THRESHOLDS))
        rng = generator(self.arm.seed, "bounds")
        return {"bounds": bounds(scores, spans, public, knowledge.mean, comparisons, rng)}

    def _serve(self, history: History) -> tuple[list[Processed], float]:
        """Let the arm's server process all requests; everything it broadcasts goes through the defense.

        Returns:
            What was completed, and the seconds that it took, broadcasting left out.
        """
        began, broadcasting = time.perf_counter(), 0.0
        adversary, deletion = self.arm.setting.adversary, self.arm.setting.deletion
        writer = TranscriptWriter(self._transcript, adversary.knows_bracket, adversary.round_to)
        last = max((request.round for request in self.trunk.ground.requests), default=0)
        missed = range(last - adversary.missed_rounds + 1, last + 1)

        setup, count = history.setup, itertools.count()

        def publish(release: Release, parent: int | None) -> tuple[int, Params]:
            nonlocal broadcasting
            paused = time.perf_counter()
            noise = noise_of(self.arm.seed, setup.noise(("release-noise",)), next(count), release.branch)
            broadcast = self.arm.defense.release(release, noise)
            if release.phase == "training" and release.round in missed:
                number = len(writer.heard) - 1  # the last one that was heard stands in for it
            else:
                number = writer.append(broadcast, parent)
            broadcasting += time.perf_counter() - paused
            return number, broadcast.params

        session = Session(
            history=history,
            unlearner=self.arm.unlearning,
            federation=history.federation,
            ledger=Ledger(self.directory / "ledger.jsonl", self.arm.id),
            publish=publish,
            sequential=deletion.pattern == "sequential",
            rounds_between=deletion.rounds_between,
            treasurer=self._treasurer,
        )
        processed = session.serve(self.trunk.ground.requests)
        return processed, time.perf_counter() - began - broadcasting

    def _knowledge(self, processed: Sequence[Processed]) -> PublicKnowledge:
        """What the scenario grants the adversary, and no more."""
        labels = [self._forgotten(p)[1] for p in processed]
        return knowledge_of(self.scenario.name, self.arm, self.trunk.ground, processed, labels)

    def _forgotten(self, processed: Processed) -> tuple[Array, Array]:
        """The records of one request: ground truth, for scoring only."""
        population = self.trunk.ground.population
        forget = processed.case.request.forget
        rows = np.concatenate([population.rows(client, records) for client, records in forget.items()])
        return population.take(rows)

    def _challenge(self, processed: Sequence[Processed]) -> Posed | None:
        """Given records to tell apart, where an attack is on such."""
        if not processed or not any("challenge" in attack.needs for attack in self.arm.attacks):
            return None
        return pose(processed, self.trunk.ground.population, self.arm.seed)

    def _marks(
        self,
        processed: Sequence[Processed],
        answers: dict[str, Answer],
        knowledge: PublicKnowledge,
        posed: Posed | None,
    ) -> dict[str, Mark]:
        truths = []
        for case, p in enumerate(processed):
            x, y = self._forgotten(p)
            truths.append(Truth(case, x.astype(np.float64), y.astype(np.float64)))
        candidates = np.asarray(self.trunk.ground.population.test_x, dtype=np.float64)
        status = None if posed is None else posed.status
        material = Material(truths, knowledge, candidates, status, self.arm.seed)
        return {kind: mark(kind, answer, material) for kind, answer in answers.items()}

    def _worth(self, processed: Sequence[Processed]) -> tuple[dict[str, Any], dict[int, float]]:
        """Utility and forgetting, and the utility that each request ended with; keeps the rows behind them."""
        reference = self.trunk.reference
        ended = [Ended(p.case, p.released, reference.of(p.case.request.index)) for p in processed]
        entry, rows = self.trunk.yardstick.worth(ended)
        entry["forgetting"]["exact"] = self.arm.unlearning.promises == "exact"
        if entry["forgetting"]["exact"]:
            adaptive = bool(getattr(self.arm.unlearning, "adaptive", False))
            entry["forgetting"]["exact_for_adaptive_requests"] = adaptive
        if not processed:
            return entry, {}
        models = {p.case.request.index: p.released for p in processed}
        most = self.scenario.evaluation.relearning
        rounds = self.trunk.relearn(self.arm.id, [p.case for p in processed], models, most)
        entry["forgetting"] |= relearned(rounds, reference.relearning, most)
        _save_frame(self.directory / "forgetting" / f"{self.arm.id}.parquet", rows)
        after = rows[rows["model"] == "unlearned"]
        return entry, dict(zip(after["request"], after["utility"], strict=True)) if "utility" in after else {}

    def _data(self) -> dict[str, Any]:
        schema = self.trunk.ground.population.schema
        about = {"source": schema.name, **schema.model_dump(mode="json", include={"task", "shape", "class_names"})}
        about["feature_names"] = schema.feature_names
        population = self.trunk.ground.population
        counts = {"clients": population.clients, "records": population.records}
        return {**about, **counts, "public": len(population.public_x), "test": len(population.test_x)}

    def _keep(self, processed: Sequence[Processed], answers: dict[str, Answer], marks: dict[str, Mark]) -> None:
        """Write what figures, reports and tracking draw from."""
        places = {name: self.directory / name for name in ("scores", "reconstructions", "truth", "rounds", "models")}
        for place in places.values():
            place.mkdir(exist_ok=True)
        name = self.arm.id
        frames = [marked.frame for marked in marks.values() if len(marked.frame)]
        if frames:
            _save_frame(places["scores"] / f"{name}.parquet", pd.concat(frames, ignore_index=True))
        save_answers(places["reconstructions"] / f"{name}.safetensors", answers)
        records = [self._forgotten(p) for p in processed]
        if records:
            _save_arrays(
                places["truth"] / f"{name}.safetensors",
                {
                    "x": np.concatenate([x for x, _ in records]).astype(np.float64),
                    "y": np.concatenate([y for _, y in records]).astype(np.float64),
                    "case": np.concatenate([np.full(len(y), case) for case, (_, y) in enumerate(records)]),
                },
            )
            _save_arrays(places["models"] / f"{name}.safetensors", processed[0].released)
            write_atomically(places["models"] / f"{name}.json", self.trunk.ground.setup.spec.model_dump_json())
        write_atomically(places["rounds"] / f"{name}.json", json.dumps(self._rounds()))

    def _rounds(self) -> list[dict[str, Any]]:
        """Utility, loss, movement and, under privacy, the highest epsilon at each release of the trunk."""
        population = self.trunk.ground.population
        judge = Judge(self._model, population.test_x, population.test_y) if len(population.test_x) else None
        account, meter = self.trunk.history.setup.account, self._treasurer.meter
        lines: list[dict[str, Any]] = []
        previous: Params | None = None
        for release in self.trunk.history.releases:
            line: dict[str, Any] = {"round": release.round, "phase": release.phase}
            if judge is not None:
                judged = judge([release.params])
                line |= {"utility": float(judged.utility[0]), "loss": float(judged.losses.mean())}
            if previous is not None:
                line["update_norm"] = distance(release.params, previous)
            if account.unit is not None and release.phase == "training":
                line["epsilon"] = meter.highest(account, [0], account.marks[release.round])
            previous = release.params
            lines.append(line)
        return lines


def _notes(processed: Sequence[Processed]) -> dict[str, float]:
    """What the method reported of itself: the mean over the requests that reported it."""
    names = sorted({name for p in processed for name in p.notes})
    return {name: float(np.mean([p.notes[name] for p in processed if name in p.notes])) for name in names}


def _save_frame(path: Path, frame: pd.DataFrame) -> None:
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".{path.name}")
    frame.to_parquet(draft)
    draft.replace(path)


def _save_arrays(path: Path, arrays: Params) -> None:
    write_atomically(path, save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))
