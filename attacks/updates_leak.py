"""Baseline: an encoder-decoder from changed answers to records, learned from shadow deletions."""

import warnings
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler, normalize

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guess, proportional
from palimpsest.attacks.shadows import ShadowPlan, make_shadows
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.queries import QueriedCase
from palimpsest.simulator.world.records import Array, Reconstruction
from palimpsest.simulator.world.specs import Frozen


class UpdatesLeak(Frozen):
    """Salem et al., USENIX Security 2020, for deletions: from the change of the answers to ``probes`` public records.

    Shadow deletions from the public sample show which record goes with which change; a network with a narrow middle
    learns to give the record, and its label, back. The paper trains encoder and decoder apart, on 10,000 updates; here
    they are one network and far fewer updates of a small public sample. Changes are taken at length 1, as shadows of
    fewer records have longer ones. Several records: their mean, k times. Where no answer changed: the public mean,
    flagged. Guarantee: none.

    Attributes:
        probes: records that both models are asked about.
        shadows: models trained.
        deletions: from each of them.
        code: width of the middle.
        epochs: of the network.
    """

    card: ClassVar[Card] = CARDS["updates-leak"]
    kind: Literal["updates-leak"] = "updates-leak"
    probes: int = Field(default=100, ge=1)
    shadows: int = Field(default=4, ge=1)
    deletions: int = Field(default=300, ge=2)
    code: int = Field(default=64, ge=1)
    epochs: int = Field(default=30, ge=1)

    def ask(
        self, cases: Sequence[QueriedCase], knowledge: PublicKnowledge, rng: np.random.Generator
    ) -> list[Reconstruction]:
        """Learn one network from shadows of the median size, then put every case's change through it."""
        case_rng = np.random.default_rng(int(rng.integers(2**31)))
        public = np.asarray(knowledge.x, np.float64)
        probes = public[case_rng.permutation(len(public))[: self.probes]]
        size = int(np.median([case.size for case in cases]))
        changes, rows = self._updates(knowledge, probes, size, case_rng)
        scaler = StandardScaler().fit(changes)
        network = self._trained(scaler.transform(changes), _targets(knowledge)[rows].mean(axis=1), case_rng)
        answers = []
        for case in cases:
            change = _difference(case, probes)
            if change.any():
                answers.append(
                    _read(case, network.predict(scaler.transform(normalize(change.reshape(1, -1))))[0], knowledge)
                )
            else:
                answers.append(guess(case.index, case.size, case.labels, knowledge, no_signal=True))
        return answers

    def _trained(self, changes: Array, targets: Array, rng: np.random.Generator) -> MLPRegressor:
        network = MLPRegressor(
            hidden_layer_sizes=(2 * self.code, self.code, 2 * self.code),
            max_iter=self.epochs,
            n_iter_no_change=self.epochs,
            random_state=int(rng.integers(2**31)),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is meant to stop after so many epochs
            return network.fit(changes, targets)

    def _updates(
        self, knowledge: PublicKnowledge, probes: Array, size: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """``[u, probes * Q]`` unit changes, and ``[u, k]`` the public rows behind them."""
        changes, rows = [], []
        for shadow in make_shadows(knowledge, ShadowPlan(self.shadows, self.deletions, size), probes, rng):
            changes.append(normalize((shadow.before - shadow.after).reshape(len(shadow.after), -1)))
            rows.append(shadow.deleted)
        return np.concatenate(changes), np.concatenate(rows)


def _difference(case: QueriedCase, probes: Array) -> Array:
    before, after = case.before(probes).scores, case.after(probes).scores
    assert before is not None
    assert after is not None
    return before - after


def _targets(knowledge: PublicKnowledge) -> Array:
    """``[m, d + Q]`` public records beside their one-hot class, or target."""
    y = np.asarray(knowledge.y)
    if knowledge.facts.model.task == "classification":
        label: Array = np.eye(knowledge.facts.model.outputs)[y.astype(np.int64)]
    else:
        label = y[:, None].astype(np.float64)
    return np.concatenate([np.asarray(knowledge.x, np.float64), label], axis=1)


def _read(case: QueriedCase, output: Array, knowledge: PublicKnowledge) -> Reconstruction:
    """The record, within its box, as often as records were deleted, and its label."""
    width = knowledge.x.shape[1]
    x = np.clip(output[:width], knowledge.box_low, knowledge.box_high)
    if case.labels is not None:
        y = np.array(case.labels, np.float64)
    elif knowledge.facts.model.task == "regression":
        y = np.full(case.size, output[width])
    elif case.size == 1:
        y = np.array([output[width:].argmax()], np.float64)
    else:
        share = np.maximum(output[width:], 1e-12)
        y = proportional(share / share.sum(), case.size)
    return Reconstruction(case.index, np.tile(x, (case.size, 1)), y)
