"""A tap on somebody else's Flower app: what its strategy sends out becomes a transcript that attacks read."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from safetensors.numpy import save

from palimpsest.simulator.world.data.public_file import read_public, sample_of
from palimpsest.simulator.world.errors import DataError, TranscriptError
from palimpsest.simulator.world.models.fitting import fitted, spec_for
from palimpsest.simulator.world.protocols.knowledge import CaseView, Facts, PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import Transcript, TranscriptLine, TranscriptWriter
from palimpsest.simulator.world.records import Release

_EXAMPLES = "num-examples"
_LOCAL = {"local_epochs": 1, "local_steps": 0, "momentum": 0.0, "clients_per_round": 0}
"""Of a training, where the app does not say."""


class Tap(Strategy):
    """Wraps a strategy; writes each global model that goes out, and changes nothing of what the strategy does.

    The first run is branch 0 of the transcript. Each later one, of this process or another, is a branch: from the
    release that its first model is, where that ends a branch; else from the one that ``deletion`` names; else from the
    last one of branch 0.

    Args:
        strategy: of the app; its ``start`` must be Flower's own.
        directory: of the transcript; made, or appended to.
        public: npz file of public records, or its arrays, see ``read_public``.
        model: its name in the table of models.
        options: its hyper-parameters.
        training: ``learning_rate``, ``batch_size`` and ``local_epochs`` (1) of the clients' SGD: public knowledge.
        n, clients: training records and clients; counted from the replies' ``num-examples`` where not given.
        regularisation: lambda of the objective.

    Raises:
        DataError, ModelError, TranscriptError: one sentence that says what does not fit.
    """

    def __init__(
        self,
        strategy: Strategy,
        directory: str | Path,
        *,
        public: str | Path | Mapping[str, Any],
        model: str,
        training: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        n: int | None = None,
        clients: int | None = None,
        regularisation: float = 0.0,
    ) -> None:
        if type(strategy).start is not Strategy.start:
            raise TranscriptError(f"{type(strategy).__name__} has a start() of its own, which a tap cannot listen to")
        lacking = [key for key in ("learning_rate", "batch_size") if key not in training]
        if lacking:
            raise DataError(f"the tap's training = {dict(training)}: it lacks {lacking[0]}, which attacks need to know")
        given = sample_of(public, "public") if isinstance(public, Mapping) else read_public(Path(public))
        self._strategy, self._directory, self._public = strategy, Path(directory), given
        self._spec = spec_for(model, options or {}, given.schema, regularisation)
        self._training, self._n, self._clients = _LOCAL | dict(training), n, clients
        self._writer = _writer(self._directory)
        self._facts = self._known()
        self._deletion: dict[str, Any] | None = None
        self._begin()

    def deletion(
        self,
        records: int = 1,
        *,
        rule: Literal["ascent", "retrain"],
        step: float = 1.0,
        before: str | None = None,
    ) -> None:
        """Mark that the next ``start`` carries out a deletion.

        Args:
            records: how many are deleted.
            rule: ``ascent``: a step along the deleted records' gradient; ``retrain``: a training without them.
            step: length of the ascent step; it decides about labels alone.
            before: SHA-256 of the last release before the unlearning, or its first digits.

        Raises:
            TranscriptError: there is no such release, or the transcript has deletions by another rule.
        """
        if not self._writer.heard:
            raise TranscriptError(f"{self._directory} holds no release yet: a deletion follows a training")
        if before is not None and not any(line.sha256.startswith(before) for line in self._writer.heard):
            raise TranscriptError(f"{self._directory} has no release {before}")
        if self._facts is not None and self._facts.cases and self._facts.unlearning["method"] != rule:
            raise TranscriptError(f"{self._directory} has deletions by another rule; tap {rule} into another directory")
        self._deletion = {"records": records, "rule": rule, "step": step, "before": before}

    def start(self, *args: Any, **kwargs: Any) -> Any:
        """Run the wrapped strategy by Flower's own loop, and listen."""
        self._begin()
        result = super().start(*args, **kwargs)
        self._finish()
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Write the model that goes out for training."""
        self._record(arrays, server_round - 1)
        return self._strategy.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Count the records behind the first round, and aggregate."""
        kept = list(replies)
        if self._branch == 0:
            self._count(kept)
        return self._strategy.aggregate_train(server_round, kept)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Write the model that the round ended in."""
        self._record(arrays, server_round)
        return self._strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate as the strategy does."""
        return self._strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log what the strategy says of itself."""
        self._strategy.summary()

    def _begin(self) -> None:
        self._branch = 1 + max((line.branch for line in self._writer.heard), default=-1)
        self._parent: TranscriptLine | None = None
        self._last, self._offset, self._shares = "", 0, False

    def _record(self, arrays: ArrayRecord, round: int) -> None:
        """Write one model, unless it is the one that was written last."""
        params = fitted(self._spec, {name: array.numpy() for name, array in arrays.items()}, "the global model")
        digest = hashlib.sha256(save(dict(params))).hexdigest()
        if digest == self._last:
            return
        if self._branch and self._parent is None and self._leave(digest):
            self._last = digest
            return
        phase: Literal["training", "unlearning"] = "unlearning" if self._branch and self._deletion else "training"
        release = Release(self._branch, self._offset + round, phase, params)
        self._writer.append(release, None if self._parent is None else self._parent.id)
        self._last = digest

    def _leave(self, digest: str) -> bool:
        """Find the release that a branch leaves; say whether its first model is that release itself."""
        heard = self._writer.heard
        same = [line for line in heard if line.sha256 == digest]
        ends = {max(line.id for line in heard if line.branch == branch) for branch in {line.branch for line in heard}}
        named = (self._deletion or {}).get("before")
        wanted = [line for line in heard if named and line.sha256.startswith(named)]
        wanted = wanted or [line for line in same if line.id in ends] or [_last_of_trunk(heard)]
        self._parent = wanted[-1]
        self._shares = bool(same)
        self._offset = (same[-1].round or 0) if same else 0
        return self._parent.sha256 == digest

    def _count(self, replies: list[Message]) -> None:
        metrics = [m for reply in replies if reply.has_content() for m in reply.content.metric_records.values()]
        given = [m[_EXAMPLES] for m in metrics if _EXAMPLES in m]
        sizes = [float(size) for size in given if isinstance(size, int | float)]
        if sizes:
            self._n, self._clients = self._n or round(sum(sizes)), self._clients or len(sizes)

    def _known(self) -> Facts | None:
        """The facts that lie in the directory.

        Raises:
            TranscriptError: they are of another model.
        """
        path = self._directory / "knowledge.json"
        if not path.is_file():
            return None
        facts = PublicKnowledge.open(path).facts
        if facts.model != self._spec:
            raise TranscriptError(f"{self._directory} holds releases of another model ({facts.model.kind!r})")
        self._n, self._clients = self._n or facts.n, self._clients or facts.clients
        return facts

    def _finish(self) -> None:
        """Write the public knowledge, with the deletion that was carried out."""
        marked, before = self._deletion, self._facts
        cases = () if before is None else before.cases
        unlearning = {"method": "retrain"} if before is None else before.unlearning
        step = 1.0 if before is None else before.step
        if marked is not None and self._parent is not None:
            after = self._writer.heard[-1].id
            cases = (*cases, CaseView(before=self._parent.id, after=after, size=marked["records"]))
            unlearning, step = {"method": marked["rule"]}, marked["step"]
            if marked["rule"] == "retrain":
                unlearning["coupling"] = "same-order" if self._shares else "independent"
                unlearning["shares"] = "its first models" if self._shares else "no model"
        if self._n is None:
            raise DataError(f"no reply has {_EXAMPLES!r}, so that nobody knows how many records there are: give Tap n")
        self._facts = Facts(
            scenario="tap",
            schema_=self._public.schema,
            model=self._spec,
            n=self._n,
            algorithm="fedavg",
            training=self._training,
            unlearning=unlearning,
            operator="identity" if unlearning["method"] == "ascent" else "hessian",
            step=step,
            preprocessing={},
            clients=self._clients,
            cases=cases,
        )
        public = self._public
        x, y = np.asarray(public.x), np.asarray(public.y)
        PublicKnowledge(self._facts, x, y, public.box_low, public.box_high).save(self._directory)
        self._deletion = None


def _writer(directory: Path) -> TranscriptWriter:
    """A writer that goes on after what is there."""
    there = Transcript.open(directory).heard if any(directory.glob("releases.jsonl")) else ()
    writer = TranscriptWriter(directory)
    writer.heard.extend(there)
    return writer


def _last_of_trunk(heard: list[TranscriptLine]) -> TranscriptLine:
    return [line for line in heard if line.branch == 0][-1]
