"""The way of an arm's models from its server to the eavesdropper, and what is told of them and of requests."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from palimpsest.server.algorithms.step import check_finite
from palimpsest.server.arrivals import NOBODY_LEFT, left
from palimpsest.server.history import History
from palimpsest.server.session import Processed
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.federation.federation import Costs
from palimpsest.simulator.world.privacy.noise import noise_of
from palimpsest.simulator.world.protocols.events import Noted, Observer, RequestDone, RoundDone
from palimpsest.simulator.world.protocols.transcript import TranscriptWriter
from palimpsest.simulator.world.records import DeletionRequest, Forget, Params, Phase, Release

_NAMED = 3
"""So many of the clients of one request are named."""


@dataclass(frozen=True)
class _Begun:
    """A request whose unlearning began: what the arm had cost by then."""

    request: int
    at: float
    broadcasting: float
    costs: Costs


@dataclass
class Broadcast:
    """The way of an arm's releases from its server through the defense into the transcript.

    Attributes:
        inputs: of the arm.
        history: under which it unlearns, for the noise of its setup.
        writer: of the transcript.
        observer: is told of each release that is not the shared training's, and of each request.
        costs: of the arm's clients, as they grow.
        seconds: spent here so far.
        requests: what became of each so far.
        life: models after the shared training so far, where requests are a chain or there is but one.
    """

    inputs: ArmInputs
    history: History
    writer: TranscriptWriter
    observer: Observer
    costs: Costs
    seconds: float = 0.0
    requests: list[RequestDone] = field(default_factory=list)
    life: list[RoundDone] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)
    _step: int = -1
    _begun: _Begun | None = None
    _known: tuple[Params, float | None] | None = None

    @cached_property
    def _missed(self) -> range:
        """Rounds of training that the adversary does not hear: the last before the last request."""
        last = max((request.round for request in self.inputs.shared.preparation.requests), default=0)
        return range(last - self.inputs.arm.setting.adversary.missed_rounds + 1, last + 1)

    @cached_property
    def _followed(self) -> bool:
        """Whether there is one model at a time, so that the server's life is one line: each model is measured then."""
        sequential = self.inputs.arm.setting.deletion.pattern == "sequential"
        return sequential or len(self.inputs.shared.preparation.requests) == 1

    def __call__(self, release: Release, parent: int | None) -> tuple[int, Params]:
        """Publish one release; return its id in the transcript, and the model as broadcast."""
        began, arm = time.perf_counter(), self.inputs.arm
        noise = noise_of(
            arm.entropy, self.history.record.setup.noise(("release-noise",)), next(self._count), release.branch
        )
        heard = arm.defense.release(release, noise)
        check_finite(heard.params, f"what the defense {arm.defense.kind!r} makes of a release")
        if release.phase == "training" and release.round in self._missed:
            number = len(self.writer.heard) - 1  # the last one that was heard stands in for it
        else:
            number = self.writer.append(heard, parent)
        self._made(release, release.phase, None if self._begun is None else self._begun.request)
        self.seconds += time.perf_counter() - began
        return number, heard.params

    def unseen(self, release: Release, request: DeletionRequest | None) -> None:
        """Tell of an ordinary round that nobody outside hears."""
        began = time.perf_counter()
        if self._followed:
            self._made(release, "between", None if request is None else request.index)
        self.seconds += time.perf_counter() - began

    def begins(self, request: DeletionRequest) -> None:
        """Note what the arm has cost before a request."""
        self._begun = _Begun(request.index, time.perf_counter(), self.seconds, replace(self.costs))

    def completed(self, processed: Sequence[Processed]) -> None:
        """Tell of requests that were completed; their models are judged together, as they are near those before."""
        now = time.perf_counter()
        judge = self.inputs.shared.utility_evaluator
        models, near = [done.released for done in processed], [done.case.before for done in processed]
        utilities = [None] * len(processed) if judge is None else judge.utility(models, near).tolist()
        for done, utility in zip(processed, utilities, strict=True):
            self._tell(self._completed(done, utility, now))
        self._begun = None
        self.seconds += time.perf_counter() - now

    def refused(self, request: DeletionRequest, reason: str) -> None:
        """Tell of a request that was refused, and why."""
        began = time.perf_counter()
        self._tell(self._done(request, reason, began))
        self.seconds += time.perf_counter() - began

    def _done(self, request: DeletionRequest, refused: str, now: float) -> RequestDone:
        """What became of a request, as far as it goes for completed and refused ones."""
        return RequestDone(
            arm=self.inputs.arm.id,
            request=request.index,
            round=request.round,
            level=request.level,
            clients=tuple(request.forget),
            records=request.size,
            refused=refused,
            seconds=now - self._began,
            name=self._name(request),
        )

    def _tell(self, done: RequestDone) -> None:
        self.requests.append(done)
        self.observer.request_done(done)
        if done.records_left == 0:
            self.observer.noted(Noted(f"{done.arm}, after request {done.request + 1} ({done.name}): {NOBODY_LEFT}"))

    def _completed(self, what: Processed, utility: float | None, now: float) -> RequestDone:
        """What a completed request led to, and what it alone has cost."""
        gone = what.case.forgotten if self.inputs.arm.unlearning.card.deletes else {}
        done = replace(
            self._done(what.case.request, "", now),
            utility=utility,
            utility_before=self._before(what.case.before),
            epsilon_leaver=what.spent.get("deleted", {}).get("after", {}).get("max"),
            epsilon_retained=what.spent.get("retained", {}).get("after", {}).get("max"),
            epsilon_retained_before=what.spent.get("retained", {}).get("before", {}).get("max"),
            clients_left=self._clients_without(gone),
            records_left=left(self.history.record.sizes, gone),
            step=self._step if self._followed else None,
        )
        if self._begun is None:
            return done
        before = self._begun.costs
        return replace(
            done,
            took=now - self._begun.at - (self.seconds - self._begun.broadcasting),
            client_updates=self.costs.client_updates - before.client_updates,
            bytes_up=self.costs.bytes_up - before.bytes_up,
            bytes_down=self.costs.bytes_down - before.bytes_down,
        )

    def _before(self, model: Params) -> float | None:
        """Utility of a model that was unlearned from, by the same arithmetic; alternatives share one, judged once."""
        if self._known is None or self._known[0] is not model:
            judge = self.inputs.shared.utility_evaluator
            self._known = model, None if judge is None else float(judge.utility([model], [model])[0])
        return self._known[1]

    def _clients_without(self, gone: Forget) -> int:
        sizes = self.history.record.sizes
        emptied = sum(len(records) == int(sizes[client]) > 0 for client, records in gone.items())
        return int((sizes > 0).sum()) - emptied

    def _name(self, request: DeletionRequest) -> str:
        names = self.inputs.shared.preparation.population.schema.site_names
        asking = list(request.forget)
        said = ", ".join(names[client] if names else f"client {client}" for client in asking[:_NAMED])
        return said + (f" and {len(asking) - _NAMED} more" if len(asking) > _NAMED else "")

    @cached_property
    def _shared(self) -> set[int]:
        """Identities of the shared training's releases, which were told of when they came."""
        return {id(release) for release in self.inputs.shared.history.record.releases}

    def _made(self, release: Release, phase: Phase, request: int | None) -> None:
        """Tell of a model of the arm's own; one model is measured at a time, alternatives are not."""
        self._step += phase != "working"
        if id(release) in self._shared:
            return
        training, arm = self.inputs.shared.preparation.label, self.inputs.arm.id
        done = RoundDone(training, arm, release.branch, release.round, phase, time.perf_counter() - self._began)
        if self._followed:
            utility, loss = self._judged(release.params)
            step = max(self._step, 0)
            done = replace(done, utility=utility, loss=loss, epsilon=self._epsilon(release), step=step, request=request)
            self.life.append(done)
        self.observer.round_done(done)

    def _epsilon(self, release: Release) -> float | None:
        """The highest epsilon of any unit by now; None without privacy."""
        account = self.history.record.setup.account
        return None if account.unit is None else self.inputs.privacy_budget.meter.highest(account, [release.branch])

    def _judged(self, model: Params) -> tuple[float | None, float | None]:
        """Utility and mean loss on the test records; None where there are none."""
        if (utility_evaluator := self.inputs.shared.utility_evaluator) is None:
            return None, None
        judged = utility_evaluator([model])
        return float(judged.utility[0]), float(judged.losses.mean())
