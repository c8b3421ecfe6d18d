"""The record of a chain of requests: of every round on the way to its newest model, whatever was undone."""

from dataclasses import dataclass, replace

from server.algorithms.step import Step
from server.blocks import drift
from server.history import History
from simulator.world.protocols import Restoration, UnlearningCase
from simulator.world.records import Forget, Release


@dataclass
class Chain(History):
    """A history that goes on after the trunk's: rounds are appended, and cut off where an earlier one is restored.

    ``releases`` and ``drifts`` are those of the way to the newest model; ``restored`` says where on it a release was
    restored, and for whom.
    """

    @classmethod
    def of(cls, trunk: History, round: int) -> "Chain":
        """The record as the trunk has it after so many rounds."""
        if trunk.drifts is None:
            raise ValueError("a chain continues a record of what single clients moved, and this history has none")
        return cls(
            setup=replace(trunk.setup, keep_updates=True),
            federation=trunk.federation,
            stream=trunk.stream,
            releases=trunk.releases[: trunk.after(round) + 1],
            public=trunk.public,
            drifts=list(trunk.drifts[:round]),
        )

    def restore(self, case: UnlearningCase, release: Release) -> None:
        """Cut the record back to a release, which takes the place of the one after so many rounds."""
        assert self.drifts is not None
        del self.drifts[release.round :]
        self.releases = [kept for kept in self.releases if kept.round < release.round]
        self.releases.append(replace(release, branch=0, phase="training"))
        self.restored = [one for one in self.restored if one.round <= release.round]
        self.restored.append(Restoration(release.round, frozenset(case.forgotten)))

    def passed(self, step: Step, gone: Forget) -> None:
        """Append a round. Who is gone is drawn as ever, and neither moves nor counts."""
        assert self.drifts is not None
        present = {client: update for client, update in step.updates[0].items() if client not in gone}
        self.drifts.append(drift(present, self.weights))
        self.releases.append(Release(0, step.round, "training", step.models[0]))
