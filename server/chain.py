"""A record that goes on through a chain of requests: each round on the way to its newest model, whatever was undone."""

from dataclasses import dataclass, replace

from palimpsest.server.algorithms.step import Step, states_of
from palimpsest.server.blocks import drift
from palimpsest.server.record import Record
from palimpsest.simulator.world.protocols.strategy import States
from palimpsest.simulator.world.protocols.unlearning import Restoration, UnlearningCase
from palimpsest.simulator.world.records import Forget, Params, Release


@dataclass(frozen=True)
class Chain:
    """Keeps a record up to date: rounds are appended, and cut off where an earlier release is restored.

    Attributes:
        record: its ``releases``, ``drifts``, ``states`` and ``shards`` are those of the way to the newest model;
            ``restored`` says where on it a release was restored, and for whom.
    """

    record: Record

    @classmethod
    def of(cls, first: Record, round: int) -> "Chain":
        """What a first training had left after so many rounds, in a record of its own."""
        return cls(
            Record(
                setup=replace(first.setup, keep_updates=first.drifts is not None),
                releases=first.releases[: first.after(round) + 1],
                public=first.public,
                drifts=None if first.drifts is None else list(first.drifts[:round]),
                shards=None if first.shards is None else first.shards.copy(round + 1),
                states=first.states[: round + 1],
            )
        )

    def restore(self, case: UnlearningCase, release: Release) -> None:
        """Cut the record back to a release, which takes the place of the one after so many rounds."""
        record = self.record
        restored = record.states_after(release.round)
        self._cut(release.round)
        record.states.append(restored)
        record.releases.append(replace(release, branch=0, phase="training"))
        record.restored[:] = [earlier for earlier in record.restored if earlier.round <= release.round]
        record.restored.append(Restoration(release.round, frozenset(case.forgotten)))

    def append(self, step: Step, gone: Forget) -> None:
        """Append a round, or begin again where it is the start.

        Args:
            step: of the one training that a chain has.
            gone: whose clients may be drawn, and neither move the model nor count.
        """
        if step.phase == "working":
            return
        record = self.record
        if step.round == 0:
            self._cut(0)
        elif record.drifts is not None:
            present = {client: update for client, update in step.updates[0].items() if client not in gone}
            record.drifts.append(drift(present, record.weights))
        if record.shards is not None and step.shards:
            record.shards.append(step.shards[0])
        record.states.append(states_of(step, 0))
        record.releases.append(Release(0, step.round, "training", step.models[0]))

    def replace_shard(self, shard: int, round: int, model: Params, states: States) -> None:
        """Put a shard's new model, and what the strategy's server keeps behind it, in the place of its old one."""
        behind = list(self.record.states_after(round))
        behind[shard : shard + 1] = states
        self.record.states[round] = tuple(behind)
        if self.record.shards is not None:
            self.record.shards.replace(round, shard, model)

    def newest_shards(self) -> list[Params]:
        """The models of the shards behind the newest release; empty where the training has none."""
        return self.record.shard_models(-1) if self.record.shards else []

    def _cut(self, round: int) -> None:
        """Forget what came with this round and after it."""
        record = self.record
        record.releases[:] = [kept for kept in record.releases if kept.round < round]
        del record.states[round:]
        if record.shards is not None:
            record.shards.cut(round)
        if record.drifts is not None:
            del record.drifts[round:]
