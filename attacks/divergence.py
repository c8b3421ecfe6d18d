"""What the whole of an unlearning tells beyond its last pair: where it shares the training's randomness.

A retraining in the first training's order repeats it bit for bit up to the round that first read a deleted record. From
then on the models drift apart, and after the last round their difference is the sum of everything that followed. The
difference of the first round that differs, theta_{r+1} - theta'_{r+1} after the common theta_r, is nearly the deleted
records' own gradient at theta_r; what each later round adds tells the same again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from palimpsest.attacks.server_steps import ServerStep, mean_updates, server_step
from palimpsest.simulator.world.models.model import theta
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params

Reads: TypeAlias = Literal["auto", "pair", "first", "all"]
"""What an attack reads of a case: the models around the unlearning (the papers' threat model); the first round at which
training and unlearning differ; all rounds from there on. ``auto``: what tells most; the pair where the two sequences
share no model."""

_FILLINGS = 20
"""Times that what was cut is filled in."""
_NOISY = -0.3
"""Correlation of what two following rounds add, below which noise of the releases rules: -1/2 if it is all there is."""
_DIRECTED = 0.3
"""Share of what rounds add that lies in as many directions as there are records, above which noise does not rule."""


@dataclass(frozen=True)
class Divergence:
    """Theta of a case's models from the last common one on.

    Attributes:
        common: ``[p + 1, Q]`` the last model that training and unlearning share.
        kept, gone: ``[rounds, p + 1, Q]`` those of the training and of the unlearning after it.
        increments: ``[rounds, p + 1, Q]`` what each round added to the difference of the models, by the clients' mean
            updates alone: what the server made of them is undone.
    """

    common: Array
    kept: Array
    gone: Array
    increments: Array

    @property
    def points(self) -> Array:
        """``[rounds, p + 1, Q]`` the training's model at the beginning of each round."""
        return np.concatenate([self.common[None], self.kept[:-1]])

    def noisy(self, size: int) -> bool:
        """Whether releases are rounded, noised or cut, so that what rounds add is mostly that.

        Noise of a release enters one increment with one sign and the next with the other, and has no direction. Cut
        parameters are 0 in some releases and not in others.

        Args:
            size: how many records were deleted.
        """
        increments = self.increments
        if len(increments) < 2:
            return False
        if not self.there.all():
            return True
        power = float((increments**2).sum())
        if float((increments[1:] * increments[:-1]).sum()) >= _NOISY * power:
            return False
        values = np.linalg.svd(np.concatenate(list(increments), axis=1), compute_uv=False)
        return float((values[:size] ** 2).sum()) < _DIRECTED * power

    @cached_property
    def there(self) -> Array:
        """``[rounds, p + 1, Q]`` which differences were heard: a parameter is cut where it is 0 now and not always."""
        zero = np.stack([self.kept == 0.0, self.gone == 0.0])
        heard: Array = np.logical_not(zero.any(axis=0) & ~zero.all(axis=(0, 1)))
        return heard

    def mean(self, size: int) -> Array:
        """``[p + 1, Q]`` the mean difference over the rounds.

        What was cut is filled in, again and again, by what the differences of all rounds have in common: no more
        directions than there are records.

        Args:
            size: how many records were deleted.
        """
        differences = self.kept - self.gone
        heard = self.there
        if heard.all():
            plain: Array = differences.mean(axis=0)
            return plain
        of_each = np.where(heard, differences, 0.0).sum(axis=0) / np.maximum(heard.sum(axis=0), 1)
        rows, there = (np.concatenate(list(part), axis=1) for part in (differences, heard))
        filled = np.where(there, rows, np.tile(of_each, len(differences)))
        for _ in range(_FILLINGS):
            common = np.linalg.eigh(filled.T @ filled)[1][:, -size:]
            filled = np.where(there, rows, filled @ common @ common.T)
        shared = filled @ common @ common.T
        mean: Array = shared.reshape(len(rows), len(differences), -1).mean(axis=1)
        return mean

    def gradient(self, size: int, drift: Array) -> Array:
        """``[p + 1, Q]`` the change that the deleted records made in all rounds together, as far as it is told.

        A round adds the records' gradient, and turns the difference that it found as it turns every model. Without the
        latter, what the rounds added, side by side, spans no more directions than there are records, which are the
        same in every round, only their residuals change. The sum, freed of all other directions, is the answer.

        Args:
            size: how many records were deleted.
            drift: ``[rounds - 1, p + 1, Q]`` by how much each round after the first turned the difference back.
        """
        added = self.increments.copy()
        added[1:] += drift
        directions = np.linalg.svd(np.concatenate(list(added), axis=1), full_matrices=False)[0][:, :size]
        total: Array = directions @ (directions.T @ added.sum(axis=0))
        return total


def divergence_of(case: Case, knowledge: PublicKnowledge) -> Divergence | None:
    """Where the models of a linear head part; None where the sequences share none.

    Args:
        case: of a linear head.
        knowledge: public facts; of a case whose sequences part the strategy is read.
    """
    at = case.divergence
    if at is None:
        return None
    kept, gone = (
        np.stack([theta(model) for model in models[at:]]).astype(float) for models in (case.trunk, case.branch)
    )
    step = server_step(knowledge.facts.training)
    if step.keeps:
        increments = np.diff(kept - gone, axis=0, prepend=0.0)
    else:
        means = _means(case, step, len(case.trunk))
        increments = np.stack([theta(of_all) - theta(of_rest) for of_all, of_rest in zip(*means, strict=True)])
    return Divergence(np.asarray(theta(case.trunk[at - 1]), np.float64), kept, gone, increments)


def _means(case: Case, step: ServerStep, until: int) -> tuple[list[Params], list[Params]]:
    """The clients' mean updates from the round that first differs on, with the deleted records and without.

    Up to that round the server has kept the same of both. The first model heard is taken for the first of the training.

    Args:
        case: one whose sequences part.
        step: the server's.
        until: position in the sequences after the last release that is read.
    """
    at = case.divergence or 0
    shared = [*case.earlier, *case.trunk[:at]]
    with_them = mean_updates([*shared, *case.trunk[at:until]], step)
    without = mean_updates([*shared, *case.branch[at:until]], step, near=with_them)
    begin = len(shared) - 1
    return with_them[begin:], without[begin:]


def step_of_a_round(knowledge: PublicKnowledge) -> float:
    """How far a round of federated training moves the global model along the gradient of a single record's loss.

    Exact for fedsgd and for batches that hold a client's records as a whole; else its mean over clients. It is the step
    of the clients' mean update, which is what is read of strategies whose server makes something else of it
    (``server_steps``). Where that has no such length (robust strategies, and adam at the clients) it is taken for
    fedavg's: what is made of a diverging round counts by its direction.
    """
    facts = knowledge.facts
    training = facts.training
    present = present_records(knowledge)
    if facts.algorithm == "fedsgd":
        return float(training["learning_rate"] / present)
    share = facts.n / clients_of(knowledge)
    batch = min(float(training["batch_size"]), share)
    visits = training["local_steps"] * batch / share if training["local_steps"] else training["local_epochs"]
    return float(training["learning_rate"] * visits * share / batch / present)


def pull_of_a_round(knowledge: PublicKnowledge) -> float:
    """Learning rate times local steps: how far a round moves a model down the mean gradient; 0 where nobody knows."""
    facts = knowledge.facts
    if facts.algorithm != "fedsgd" and facts.clients is None:
        return 0.0
    if not server_step(facts.training).descends or facts.training.get("optimizer", "sgd") != "sgd":
        return 0.0
    return step_of_a_round(knowledge) * present_records(knowledge)


def passes_over(rounds: int, knowledge: PublicKnowledge) -> float:
    """How often so many rounds, the first of which read a record, are expected to have read it."""
    return 1.0 + (rounds - 1) * present_records(knowledge) / knowledge.facts.n


@dataclass(frozen=True)
class DivergingCase(Case):
    """A case whose ``before`` is the last common model, and whose ``after`` is that model moved by the change.

    Attributes:
        toward: where the clients' mean update leads from ``before`` in the training: local steps went that way.
    """

    toward: Params | None = None

    @property
    def path(self) -> list[Params]:
        """Models between which the clients' local steps were taken; the one model where it was a single step."""
        if self.toward is None:
            return [self.before]
        middle = {name: (np.asarray(value, np.float64) + self.toward[name]) / 2 for name, value in self.before.items()}
        return [self.before, middle, self.toward]


def path_of(case: Case) -> list[Params]:
    """The models at which a case's gradient was taken."""
    return case.path if isinstance(case, DivergingCase) else [case.before]


def at_divergence(cases: Sequence[Case], knowledge: PublicKnowledge, reads: Reads) -> list[Case]:
    """The cases as their first diverging round shows them, for attacks that match gradients; others as they are.

    The change is the cohort's gradient with the deleted records less that without them (Hu et al., IEEE S&P 2024, at
    the last common model in place of the first): -(N (theta_{r+1} - theta_r) - (N - k) (theta'_{r+1} - theta_r)), N the
    records behind that round. Every other client cancels, as weights are the retained records. After several local
    steps that holds to first order. What a server makes of the mean update is undone where the releases tell it
    (``server_steps``). Of strategies whose server does not average so, it is the difference alone.

    Parameters that were cut from one of two models tell what was cut, and nothing of the records: they count as equal.

    Args:
        cases: of one transcript.
        knowledge: public facts.
        reads: ``pair`` leaves all cases as they are, but for what was cut.
    """
    return [_as_a_pair(case) if reads == "pair" else _moved(case, knowledge) for case in cases]


def _as_a_pair(case: Case) -> Case:
    cut = _cut(case.before, case.after)
    if cut is None:
        return case
    return replace(case, after={name: np.where(cut[name], case.before[name], case.after[name]) for name in cut})


def _cut(kept: Params, gone: Params) -> dict[str, Array] | None:
    """Where one of two models is 0; None unless both are where the other is not, as models that were pruned are.

    One model alone also has zeros that tell something: a weight that only the deleted record ever moved.
    """
    zeros = {name: (np.asarray(kept[name]) == 0.0, np.asarray(gone[name]) == 0.0) for name in kept}
    if not all(any((zero[i] & ~zero[1 - i]).any() for zero in zeros.values()) for i in (0, 1)):
        return None
    return {name: first | second for name, (first, second) in zeros.items()}


@dataclass(frozen=True)
class Parting:
    """The first round at which training and unlearning differ, all float64.

    Attributes:
        common: the model at its beginning.
        with_them, without: the clients' mean update with the deleted records and without.
        cut: parameters that were cut from one of the two models; None where none were.
        averages: whether these are means weighted by records.
    """

    common: Params
    with_them: Params
    without: Params
    cut: dict[str, Array] | None
    averages: bool

    def of_leavers(self, share: float) -> Params:
        """What the deleted records added to the mean update, which has ``share`` of its weight from them.

        The difference alone where the server does not average so; 0 where a parameter was cut.
        """
        others = 1.0 - share if self.averages else 1.0
        told = {name: value - others * self.without[name] for name, value in self.with_them.items()}
        return told if self.cut is None else {name: np.where(self.cut[name], 0.0, told[name]) for name in told}


def parting(case: Case, training: Mapping[str, Any]) -> Parting:
    """Read the first round that differs.

    Args:
        case: one whose sequences part.
        training: its public hyper-parameters, the strategy among them.
    """
    at, step = case.divergence or 0, server_step(training)
    common = {name: np.asarray(value, np.float64) for name, value in case.trunk[at - 1].items()}
    if step.keeps:
        with_them, without = (_less(model, common) for model in (case.trunk[at], case.branch[at]))
    else:
        [with_them], [without] = _means(case, step, at + 1)
    return Parting(common, with_them, without, _cut(case.trunk[at], case.branch[at]), step.averages)


def _less(model: Params, start: Params) -> Params:
    return {name: np.asarray(model[name], np.float64) - value for name, value in start.items()}


def _moved(case: Case, knowledge: PublicKnowledge) -> Case:
    at = case.divergence
    if at is None:
        return _as_a_pair(case)
    step = server_step(knowledge.facts.training)
    read = parting(case, knowledge.facts.training)
    told = read.of_leavers(case.size / present_records(knowledge))
    after = {name: value - told[name] for name, value in read.common.items()}
    local = case.trunk[at] if step.keeps else {name: v + read.with_them[name] for name, v in read.common.items()}
    return DivergingCase(
        index=case.index,
        size=case.size,
        before=read.common,
        after=after,
        labels=case.labels,
        clients=case.clients,
        toward=None if single_step(knowledge) else local,
    )


def present_records(knowledge: PublicKnowledge) -> float:
    """Records behind one round: all, if everybody takes part; else as many as there are on average."""
    training, clients = knowledge.facts.training, clients_of(knowledge)
    share = training["sampling"]["rate"] if training.get("sampling") else training["clients_per_round"] / clients or 1.0
    return float(knowledge.facts.n * share)


def clients_of(knowledge: PublicKnowledge) -> int:
    """How many clients there are; where nobody says, those of one round."""
    return knowledge.facts.clients or knowledge.facts.training["clients_per_round"] or 1


def single_step(knowledge: PublicKnowledge) -> bool:
    """Whether a round is one step along the gradient of the cohort's records: then its change is exactly that."""
    facts = knowledge.facts
    if facts.algorithm == "fedsgd":
        return True
    training = facts.training
    if not server_step(training).averages or training.get("optimizer", "sgd") != "sgd":
        return False
    share = facts.n / clients_of(knowledge)
    return bool(training["local_epochs"] == 1 and not training["local_steps"] and training["batch_size"] >= 2 * share)
