"""A server's life: it trains, requests arrive, it unlearns, and everything it broadcasts is published in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from palimpsest.server.algorithms.step import check_finite, states_of
from palimpsest.server.arrivals import NOBODY_LEFT, Arrival, common, left, timeline, union, without
from palimpsest.server.finetuning import unlearned
from palimpsest.server.history import History
from palimpsest.server.ledger import Ledger
from palimpsest.server.setup import Lineage
from palimpsest.server.training import train
from palimpsest.server.witness import Witness
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.protocols.federation import PERTURBATION, Federation, Statistics
from palimpsest.simulator.world.protocols.strategy import States
from palimpsest.simulator.world.protocols.unlearning import Outcome, Unlearner, UnlearningCase
from palimpsest.simulator.world.records import DeletionRequest, Forget, Params, Release, branch_of
from palimpsest.simulator.world.seeding import Key

Publish = Callable[[Release, int | None], tuple[int, Params]]
"""Broadcast one release, given its parent's id where it starts a branch; returns its id, and the model as broadcast."""


@dataclass(frozen=True)
class Processed:
    """One completed request.

    Attributes:
        case: what was processed.
        before: id of the last release seen before the unlearning.
        after: id of the last release of it.
        released: the model of ``after`` as it was broadcast.
        model: the same as the server has it, where a defense changed what was broadcast.
        notes: what the method reported of itself.
        spent: what units of privacy have paid, before it and after it; empty where there is no privacy.
    """

    case: UnlearningCase
    before: int
    after: int
    released: Params
    model: Params
    notes: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChainState:
    """What a chain of requests goes on from.

    Attributes:
        newest: id of the last release that was seen.
        model: the server's newest.
        round: rounds of training that it has behind it.
        forgotten: everything that is deleted by now.
        statistics: what the server keeps of the data (closed form only).
        perturbation: stream of the objective's perturbation that ``model`` was trained with.
        states: what the strategy's server keeps behind ``model``.
    """

    newest: int
    model: Params
    round: int
    forgotten: Forget
    statistics: Statistics | None
    perturbation: Key = PERTURBATION
    states: States = ()

    def after(self, outcome: Outcome) -> "ChainState":
        """The same after an ordinary round."""
        release = outcome.release
        return replace(self, model=release.params, round=release.round, states=outcome.states)


class PrivacyBudget(Protocol):
    """Reads the account of privacy, and refuses what would exceed the budget."""

    def refusals(self, history: History, unlearner: Unlearner, cases: Sequence[UnlearningCase]) -> Mapping[int, str]:
        """Request -> why its processing cannot be afforded."""
        ...

    def statement(self, account: Account, case: UnlearningCase, before: int) -> Mapping[str, Any]:
        """What units have paid when the account had ``before`` entries, and by now."""
        ...


@dataclass(frozen=True)
class Session:
    """One arm's server.

    Attributes:
        history: the trunk, trained.
        unlearner: the method.
        federation: the clients, under this arm's tombstones.
        ledger: where requests are written down.
        publish: the only way out.
        sequential: requests act one after the other on the trunk, instead of each on a branch of its own.
        rounds_between: ordinary rounds, unseen, between a request and its unlearning.
        privacy_budget: of the privacy account; None: nobody asks.
        witness: is told what becomes of each request; None: nobody listens.
    """

    history: History
    unlearner: Unlearner
    federation: Federation
    ledger: Ledger
    publish: Publish
    sequential: bool
    rounds_between: int
    privacy_budget: PrivacyBudget | None = None
    witness: Witness | None = None

    def serve(self, requests: Sequence[DeletionRequest]) -> list[Processed]:
        """Publish the trunk, process every request, and return those that were accepted, in order."""
        if self.sequential:
            return list(self._chained(requests)._one_after_the_other(requests))
        return self._as_alternatives(requests)

    def _chained(self, requests: Sequence[DeletionRequest]) -> "Session":
        """With a record that goes on after the first request, where the method needs one."""
        if "client drift" not in self.unlearner.card.needs and self.history.record.setup.plan.shards == 1:
            return self
        first = min((request.round for request in requests), default=self.history.record.setup.rounds)
        return replace(self, history=self.history.chained(first))

    def _as_alternatives(self, requests: Sequence[DeletionRequest]) -> list[Processed]:
        """Process each request on a branch that leaves the trunk after the request's round, all of them together.

        The trunk is heard up to the last request: rounds after it are in no branch's past.
        """
        record = self.history.record
        shown = record.after(max((request.round for request in requests), default=record.setup.rounds))
        ids = [self.publish(release, None)[0] for release in record.releases[: shown + 1]]
        alone = requests[0] if len(requests) == 1 else None
        rounds = sorted({request.round for request in requests})
        moved = {round: self._ordinary_rounds(round, alone) for round in rounds}
        for request in requests:
            self.history.record.setup.account.fork(branch_of(request), _between(request.round))
        asked = [
            UnlearningCase(
                branch=branch_of(request),
                request=request,
                forgotten=request.forget,
                round=request.round + self.rounds_between,
                before=moved[request.round].release.params,
                statistics=self.history.record.statistics,
                states=moved[request.round].states,
            )
            for request in requests
        ]
        refusals = self._refusals(asked)
        with self.ledger.together():
            cases = [case for case in asked if self._admit(case.request, {}, refusals.get(case.request.index, ""))]
        return self._unlearn(cases, [ids[self.history.record.after(case.request.round)] for case in cases])

    def _one_after_the_other(self, requests: Sequence[DeletionRequest]) -> Iterator[Processed]:
        """Process requests in order of arrival on the trunk, training on in between without what is already gone."""
        arrivals = timeline(requests)
        state = self._begin(arrivals[0].round if arrivals else self.history.record.setup.rounds)
        for arrival in arrivals:
            state, processed = self.step(state, arrival)
            if processed is not None:
                yield processed
        for outcome in self._training_on(state, self.history.record.setup.rounds):
            self.publish(outcome.release, None)

    def _begin(self, first: int) -> ChainState:
        """Publish the trunk up to the round of the first arrival."""
        self.history.record.setup.account.rewind(first)
        shared = self.history.record.after(first)
        for release in self.history.record.releases[: shared + 1]:
            newest = self.publish(release, None)[0]
        start = self.history.record.releases[shared]
        states = self.history.record.states_after(start.round)
        return ChainState(newest, start.params, start.round, {}, self.history.record.statistics, states=states)

    def step(self, state: ChainState, arrival: Arrival) -> tuple[ChainState, Processed | None]:
        """Train on until a request or a return of a chain arrives, and act on it.

        Returns:
            What the chain goes on from, and the request if it was completed: None for a refusal and for a return.
        """
        request = arrival.request
        for outcome in self._training_on(state, arrival.round):
            state = replace(state.after(outcome), newest=self.publish(outcome.release, None)[0])
        if arrival.back:
            return replace(state, forgotten=self._take_back(request, state.forgotten, state.round)), None
        gone, until = union(state.forgotten, request.forget), state.round + self.rounds_between
        case = UnlearningCase(0, request, gone, until, state.model, state.statistics, state.perturbation)
        if not self._admit(request, state.forgotten, self._refusals([case]).get(request.index, "")):
            return state, None
        for outcome in self._training_on(state, until):
            state = state.after(outcome)
            self._unseen(outcome.release, request)
        case = replace(case, before=state.model, states=state.states)
        outcomes: list[Outcome] = []
        [processed] = self._unlearn([case], [state.newest], outcomes)
        after = ChainState(
            newest=processed.after,
            model=processed.model,
            round=state.round,
            forgotten=case.forgotten if self.unlearner.card.deletes else state.forgotten,
            statistics=_kept(case, outcomes[-1]),
            perturbation=outcomes[-1].perturbation,
            states=outcomes[-1].states,
        )
        return after, processed

    def _unlearn(
        self, cases: Sequence[UnlearningCase], before: Sequence[int], kept: list[Outcome] | None = None
    ) -> list[Processed]:
        """Run the method on cases, publish what it yields, and complete the requests.

        Args:
            cases: what to unlearn.
            before: id of the last release seen before each.
            kept: is given the newest outcome, for what the server keeps to itself.
        """
        if self.witness and len(cases) == 1:
            self.witness.begins(cases[0].request)
        parents = {case.branch: number for case, number in zip(cases, before, strict=True)}
        account = self.history.record.setup.account
        opened = len(account.entries)
        last: dict[int, tuple[int, Params, Params]] = {}
        notes: dict[int, dict[str, float]] = {branch: {} for branch in parents}
        rounds = self.history.record.setup.defense.rounds_before_release()
        for outcome in unlearned(self.unlearner, self.history, cases, self.federation, rounds) if cases else ():
            branch = outcome.release.branch
            check_finite(outcome.release.params, f"unlearning by {self.unlearner.method}")
            number, heard = self.publish(outcome.release, parents[branch])
            notes[branch] |= outcome.notes
            if outcome.release.phase != "working":
                last[branch] = number, heard, outcome.release.params
            if kept is not None:
                kept[:] = [outcome]
        spent = {case.branch: self._statement(account, case, opened) for case in cases}
        self._complete(cases, {branch: number for branch, (number, *_) in last.items()}, spent)
        processed = [
            Processed(case, number, *last[case.branch], notes=notes[case.branch], spent=spent[case.branch])
            for case, number in zip(cases, before, strict=True)
        ]
        if self.witness:
            self.witness.completed(processed)
        return processed

    def _refusals(self, cases: Sequence[UnlearningCase]) -> Mapping[int, str]:
        """Request -> why privacy forbids to process it."""
        return self.privacy_budget.refusals(self.history, self.unlearner, cases) if self.privacy_budget else {}

    def _unseen(self, release: Release, request: DeletionRequest | None) -> None:
        if self.witness:
            self.witness.unseen(release, request)

    def _ordinary_rounds(self, round: int, request: DeletionRequest | None) -> Outcome:
        """The trunk's model after ``rounds_between`` more rounds that nobody outside sees, for one request or all."""
        record = self.history.record
        release, states = record.releases[record.after(round)], record.states_after(round)
        last = Outcome(release, states=states)
        self.history.record.setup.account.fork(_between(round), round=round)
        start = ChainState(0, release.params, round, {}, None, states=states)
        for outcome in self._training_on(start, round + self.rounds_between, _between(round)):
            last = outcome
            self._unseen(outcome.release, request)
        return last

    def _training_on(self, state: ChainState, until: int, branch: int = 0) -> Iterator[Outcome]:
        """Ordinary rounds on the trunk's streams, without what is forgotten; ``branch`` pays for them."""
        if until <= state.round:
            return
        lineage = Lineage(branch=branch, forget=state.forgotten, first=state.round, last=until, states=state.states)
        chain = self.history.retrainer.chain
        shards = [models] if chain and (models := chain.newest_shards()) else []
        for step in train(self.history.record.setup, [lineage], self.federation, [state.model], shards):
            if chain:
                chain.append(step, state.forgotten)
            yield Outcome(Release(0, step.round, step.phase, step.models[0]), states=states_of(step, 0))

    def _admit(self, request: DeletionRequest, gone: Forget, unaffordable: str) -> bool:
        """Write a request down and decide on it; ``unaffordable`` says why privacy forbids it, if it does."""
        self.ledger.write(
            "requested",
            request.index,
            round=request.round,
            level=request.level,
            label=request.label,
            **self.ledger.whose(request.forget),
        )
        reason = unaffordable
        if twice := common(gone, request.forget):
            named = ", ".join(f"{list(records)} of {self.ledger.name(client)}" for client, records in twice.items())
            reason = f"records {named} have already been deleted"
        if reason:
            self.ledger.write("refused", request.index, reason=reason)
            if self.witness:
                self.witness.refused(request, reason)
            return False
        method, promises = self.unlearner.method, self.unlearner.card.promises
        self.ledger.write("accepted", request.index, method=method, promises=promises)
        return True

    def _take_back(self, request: DeletionRequest, gone: Forget, round: int) -> Forget:
        """Let the clients of a request take part again, with what they had deleted by it; return what stays gone."""
        back = common(gone, request.forget)
        self.ledger.write(
            "rejoined",
            request.index,
            round=round,
            **self.ledger.whose(back),
        )
        self.federation.readmit(0, back)
        return without(gone, back)

    def _statement(self, account: Account, case: UnlearningCase, before: int) -> Mapping[str, Any]:
        """What privacy a request has cost."""
        return self.privacy_budget.statement(account, case, before) if self.privacy_budget else {}

    def _complete(
        self, cases: Sequence[UnlearningCase], releases: Mapping[int, int], spent: Mapping[int, Mapping[str, Any]]
    ) -> None:
        """Have clients refuse the deleted records, then write into the ledger that requests are done."""
        deletes, sizes = self.unlearner.card.deletes, self.history.record.setup.sizes
        if deletes and cases:
            self.federation.tombstone({case.branch: case.request.forget for case in cases})
        with self.ledger.together():
            for case in cases:
                about = {"branch": case.branch, "release": releases[case.branch], "tombstones": deletes}
                paid = {"spent": dict(paid_by)} if (paid_by := spent[case.branch]) else {}
                empty = {"warning": NOBODY_LEFT} if deletes and not left(sizes, case.forgotten) else {}
                self.ledger.write("completed", case.request.index, **about, **paid, **empty)


def _kept(case: UnlearningCase, outcome: Outcome) -> Statistics | None:
    """The statistics that a branch goes on from."""
    if outcome.taken is None or case.statistics is None:
        return outcome.statistics
    return case.statistics.less(outcome.taken)


def _between(round: int) -> int:
    """The account's branch of the rounds that follow a round of the trunk, before any branch of a request."""
    return -1 - round
