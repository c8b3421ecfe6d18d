"""One arm: its server unlearns, its transcript goes to the adversary, and ground truth meets the answers."""

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

from attacks.session import Answer, attack_transcript
from server.ledger import Ledger
from server.session import Processed, Session
from simulator.answers import save_answers
from simulator.challenge import Posed, pose
from simulator.evaluation import Judge, distance, worth
from simulator.marking import Mark, Material, mark
from simulator.plan import Arm
from simulator.scenario import Scenario
from simulator.scoring import Truth
from simulator.trunk import Trunk, penalty
from simulator.world.knowledge import CaseView, Facts, PublicKnowledge
from simulator.world.models import Model, model_of
from simulator.world.records import Array, Params, Release
from simulator.world.seeding import generator
from simulator.world.transcript import Transcript, TranscriptWriter, write_atomically


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
        began = time.perf_counter()
        processed = self._serve(federation)
        seconds = time.perf_counter() - began
        posed = self._challenge(processed)
        knowledge = replace(self._knowledge(processed), challenge=None if posed is None else posed.challenge)
        knowledge.save(self._transcript)
        answers = attack_transcript(self._transcript, self.arm.attacks, seed=self.arm.seed)
        marks = self._marks(processed, answers, knowledge, posed)
        self._keep(processed, answers, marks)
        costs = federation.costs
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
            "requests": {"made": len(self.trunk.ground.requests), "completed": len(processed)},
            "transcript_digest": Transcript.open(self._transcript).digest(),
            **self._worth(processed),
            "attacks": {kind: marked.figures for kind, marked in marks.items() if processed},
            "privacy": {"unit": "record", "epsilon_max": None, "delta": self.scenario.privacy.delta},
            "notes": _notes(processed),
            "cost": {
                "unlearning_seconds": seconds,
                "retraining_seconds": self.trunk.reference_seconds,
                "retraining_client_updates": self.trunk.reference_updates,
                "rounds": costs.rounds,
                "client_updates": costs.client_updates,
                "bytes_up": costs.bytes_up,
                "bytes_down": costs.bytes_down,
                "server_bytes_stored": self.trunk.history.stored_for(self.arm.unlearning.needs),
            },
        }

    @property
    def _transcript(self) -> Path:
        return self.directory / "transcripts" / self.arm.id

    @cached_property
    def _model(self) -> Model:
        return model_of(self.trunk.ground.setup.spec)

    def _serve(self, federation: Any) -> list[Processed]:
        """Let the arm's server process all requests; everything it broadcasts goes through the defense."""
        adversary, deletion = self.scenario.adversary, self.arm.setting.deletion
        writer = TranscriptWriter(self._transcript, adversary.knows_bracket, adversary.round_to)

        def publish(release: Release, parent: int | None) -> tuple[int, Params]:
            broadcast = self.arm.defense.release(release)
            return writer.append(broadcast, parent), broadcast.params

        session = Session(
            history=self.trunk.history.under(federation),
            unlearner=self.arm.unlearning,
            federation=federation,
            ledger=Ledger(self.directory / "ledger.jsonl", self.arm.id),
            publish=publish,
            sequential=deletion.pattern == "sequential",
            rounds_between=deletion.rounds_between,
        )
        return session.serve(self.trunk.ground.requests)

    def _knowledge(self, processed: Sequence[Processed]) -> PublicKnowledge:
        """What the scenario grants the adversary, and no more."""
        adversary, population, setup = self.scenario.adversary, self.trunk.ground.population, self.trunk.ground.setup
        n = max(1, round(len(population.train_x) * adversary.n_factor))
        operator, step = self.arm.unlearning.public_rule()
        chosen = np.arange(len(population.public_x))
        if 0 < adversary.public_records < len(chosen):
            drawn = generator(self.arm.seed, "adversary-sample").permutation(chosen)
            chosen = np.sort(drawn[: adversary.public_records])
        facts = Facts(
            scenario=self.scenario.name,
            schema_=population.schema,
            model=setup.spec.model_copy(update={"regularisation": penalty(self.arm.setting, n)}),
            n=n,
            algorithm=setup.plan.algorithm,
            training=self.arm.setting.training.model_dump(mode="json"),
            unlearning=self.arm.unlearning.model_dump(mode="json"),
            operator=operator,
            step=step,
            preprocessing=population.preprocessing,
            granted=tuple(adversary.knows),
            seed=self.arm.seed if "seeds" in adversary.knows else None,
            round_to=adversary.round_to,
            cases=tuple(self._view(p) for p in processed),
        )
        x = np.asarray(population.public_x[chosen], dtype=np.float64)
        y = np.asarray(population.public_y[chosen])
        return PublicKnowledge(facts, x, y, np.asarray(population.box_low), np.asarray(population.box_high))

    def _view(self, processed: Processed) -> CaseView:
        """One deletion, as far as it is granted."""
        request, knows = processed.case.request, self.scenario.adversary.knows
        _, y = self._forgotten(processed)
        return CaseView(
            before=processed.before if self.scenario.adversary.knows_bracket else None,
            after=processed.after,
            size=request.size,
            labels=tuple(sorted(float(label) for label in y)) if "labels" in knows else None,
            clients=tuple(sorted(request.forget)) if "client" in knows else None,
        )

    def _forgotten(self, processed: Processed) -> tuple[Array, Array]:
        """The records of one request: ground truth, for scoring only."""
        population = self.trunk.ground.population
        forget = processed.case.request.forget
        rows = np.concatenate([population.rows(client, records) for client, records in forget.items()])
        return population.train_x[rows], population.train_y[rows]

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

    def _worth(self, processed: Sequence[Processed]) -> dict[str, Any]:
        """Utility and forgetting; of the trained model alone where no request was completed."""
        population = self.trunk.ground.population
        entry: dict[str, Any] = {"forgetting": {}}
        if processed:
            entry = worth(
                self._model,
                trained=[p.case.before for p in processed],
                unlearned=[p.released for p in processed],
                retrained=[self.trunk.references[p.case.request.index] for p in processed],
                forgotten=[self._forgotten(p) for p in processed],
                test=(population.test_x, population.test_y),
            )
        entry["forgetting"]["exact"] = self.arm.unlearning.promises == "exact"
        if entry["forgetting"]["exact"]:
            adaptive = bool(getattr(self.arm.unlearning, "adaptive", False))
            entry["forgetting"]["exact_for_adaptive_requests"] = adaptive
        return entry

    def _data(self) -> dict[str, Any]:
        schema = self.trunk.ground.population.schema
        about = {"source": schema.name, **schema.model_dump(mode="json", include={"task", "shape", "class_names"})}
        about["feature_names"] = schema.feature_names
        population = self.trunk.ground.population
        counts = {"clients": population.clients, "records": len(population.train_x)}
        return {**about, **counts, "public": len(population.public_x), "test": len(population.test_x)}

    def _keep(self, processed: Sequence[Processed], answers: dict[str, Answer], marks: dict[str, Mark]) -> None:
        """Write what figures, reports and tracking draw from."""
        places = {name: self.directory / name for name in ("scores", "reconstructions", "truth", "rounds", "models")}
        for place in places.values():
            place.mkdir(exist_ok=True)
        name = self.arm.id
        frames = [marked.frame for marked in marks.values() if len(marked.frame)]
        if frames:
            draft = places["scores"] / f".{name}.parquet"
            pd.concat(frames, ignore_index=True).to_parquet(draft)
            draft.replace(places["scores"] / f"{name}.parquet")
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
        """Utility, loss and movement at each release of the trunk."""
        population = self.trunk.ground.population
        judge = Judge(self._model, population.test_x, population.test_y) if len(population.test_x) else None
        lines: list[dict[str, Any]] = []
        previous: Params | None = None
        for release in self.trunk.history.releases:
            line: dict[str, Any] = {"round": release.round, "phase": release.phase}
            if judge is not None:
                judged = judge(release.params)
                line |= {"utility": judged.utility, "loss": float(judged.losses.mean())}
            if previous is not None:
                line["update_norm"] = distance(release.params, previous)
            previous = release.params
            lines.append(line)
        return lines


def _notes(processed: Sequence[Processed]) -> dict[str, float]:
    """What the method reported of itself: the mean over the requests that reported it."""
    names = sorted({name for p in processed for name in p.notes})
    return {name: float(np.mean([p.notes[name] for p in processed if name in p.notes])) for name in names}


def _save_arrays(path: Path, arrays: Params) -> None:
    write_atomically(path, save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))
