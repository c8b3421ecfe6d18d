"""The record of a chain of requests: of every round on the way to its newest model, whatever was undone."""

from dataclasses import dataclass, field, replace

import numpy as np

from palimpsest.server.algorithms.step import Step, states_of
from palimpsest.server.blocks import drift
from palimpsest.server.history import History
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.protocols.strategy import States
from palimpsest.simulator.world.protocols.unlearning import Restoration, UnlearningCase
from palimpsest.simulator.world.records import Array, Forget, Params, Release


@dataclass
class Chain(History):
    """A history that goes on after the trunk's: rounds are appended, and cut off where an earlier one is restored.

    ``releases`` and ``drifts`` are those of the way to the newest model; ``restored`` says where on it a release was
    restored, and for whom.

    Attributes:
        rows: of a training in shards, ``[shards, size]`` the shards' models after 0, 1, ... rounds of that way.
    """

    rows: list[Array] = field(default_factory=list)

    @classmethod
    def of(cls, trunk: History, round: int) -> "Chain":
        """The record as the trunk has it after so many rounds."""
        kept = trunk.checkpoints
        return cls(
            setup=replace(trunk.setup, keep_updates=trunk.drifts is not None),
            federation=trunk.federation,
            stream=trunk.stream,
            releases=trunk.releases[: trunk.after(round) + 1],
            public=trunk.public,
            drifts=None if trunk.drifts is None else list(trunk.drifts[:round]),
            states=trunk.states[: round + 1],
            rows=[] if kept is None else [kept.read(t)[1] for t in range(round + 1)],
        )

    def restore(self, case: UnlearningCase, release: Release) -> None:
        """Cut the record back to a release, which takes the place of the one after so many rounds."""
        restored = self.states_after(release.round)
        self._cut(release.round)
        self.states.append(restored)
        self.releases.append(replace(release, branch=0, phase="training"))
        self.restored = [one for one in self.restored if one.round <= release.round]
        self.restored.append(Restoration(release.round, frozenset(case.forgotten)))

    def passed(self, step: Step, gone: Forget) -> None:
        """Append a round, or begin again where it is the start. Who is gone is drawn, and neither moves nor counts."""
        if step.phase == "working":
            return
        if step.round == 0:
            self._cut(0)
        elif self.drifts is not None:
            present = {client: update for client, update in step.updates[0].items() if client not in gone}
            self.drifts.append(drift(present, self.weights))
        if step.shards:
            self.rows.append(np.stack([flat(model) for model in step.shards[0]]))
        self.states.append(states_of(step, 0))
        self.releases.append(Release(0, step.round, "training", step.models[0]))

    def rewritten(self, shard: int, round: int, model: Params, states: States) -> None:
        """Put a shard's new model, and what the strategy's server keeps behind it, in the place of its old one."""
        behind = list(self.states_after(round))
        behind[shard : shard + 1] = states
        self.states[round] = tuple(behind)
        rows = np.array(self.rows[round])
        rows[shard] = flat(model)
        self.rows[round] = rows

    def shard_models(self, round: int) -> list[Params]:
        """The models of the shards after so many rounds on the way to the newest."""
        return [unflat(row, self.releases[0].params) for row in self.rows[round]]

    def newest_shards(self) -> list[Params]:
        """The shards' models behind the newest release."""
        return self.shard_models(-1) if self.rows else []

    def _cut(self, round: int) -> None:
        """Forget what came with this round and after it."""
        self.releases = [kept for kept in self.releases if kept.round < round]
        del self.rows[round:]
        del self.states[round:]
        if self.drifts is not None:
            del self.drifts[round:]
