"""A training's record, and who can train again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from palimpsest.server.chain import Chain
from palimpsest.server.record import Record
from palimpsest.server.retrainer import Retrainer
from palimpsest.server.setup import Lineage, Setup
from palimpsest.server.training import train
from palimpsest.simulator.world.protocols.defense import Memory
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.records import Array, Release


@dataclass(frozen=True)
class History:
    """What an unlearning method works with.

    Attributes:
        record: what the server kept of the training.
        retrainer: trains again, from the same record.
    """

    record: Record
    retrainer: Retrainer

    @classmethod
    def of(cls, setup: Setup, federation: Federation, **kept: Any) -> "History":
        """A training before its first round.

        Args:
            setup: how the model is trained.
            federation: the clients.
            **kept: what the record is to keep (fields of ``Record``): the stores for ``updates`` and ``shards``, an
                empty list for ``drifts``, the ``public`` sample.
        """
        record = Record(setup, **kept)
        return cls(record, Retrainer(record, federation))

    def train(self) -> Iterator[Release]:
        """Train for the first time; yield what is released, once it is kept."""
        record = self.record
        single = record.updates is not None or record.drifts is not None
        memories: list[Memory] = []
        federation = self.retrainer.federation
        for step in train(replace(record.setup, keep_updates=single), [Lineage(branch=0, forget={})], federation):
            if step.phase == "training":
                memories.append(step.memories[0] if step.memories else {})
            yield record.append(step)
        record.setup = replace(record.setup, memories=tuple(memories))

    def under(self, federation: Federation) -> "History":
        """The same, with clients that know other tombstones, and an account of privacy that goes on by itself."""
        record = self.record.with_own_account()
        return History(record, replace(self.retrainer, record=record, federation=federation))

    def on_stream(self, stream: str) -> "History":
        """The same, whose retrainings draw from streams of this name."""
        return replace(self, retrainer=replace(self.retrainer, stream=stream))

    def joined(self, federation: Federation, public: Array | None) -> "History":
        """The same on another machine, with the clients and the public sample that are there."""
        record = replace(self.record, public=public)
        return History(record, replace(self.retrainer, record=record, federation=federation))

    def chained(self, round: int) -> "History":
        """The same for requests that act one after the other, the first of them after so many rounds."""
        chain = Chain.of(self.record, round)
        return History(chain.record, replace(self.retrainer, record=chain.record, chain=chain))
