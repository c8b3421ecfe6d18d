"""The account of differential privacy: what has been broadcast of whose data, hidden by how much noise.

An account holds facts, one entry for each reading of data that went into a broadcast. What the entries of one unit
amount to in epsilon is for an accountant to say (``defenses.accountant``); post-processing is free and leaves no entry.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from palimpsest.simulator.world.cards import Unit
from palimpsest.simulator.world.records import Array, Forget


@dataclass(frozen=True)
class Charge:
    """Poisson-subsampled Gaussian mechanisms: the price of one reading.

    Attributes:
        noise_multiplier: deviation of the noise over the sensitivity.
        sample_rate: probability that the unit takes part in a step; 1: no amplification.
        steps: how many, one after the other.
    """

    noise_multiplier: float
    sample_rate: float = 1.0
    steps: int = 1


Spending: TypeAlias = Mapping[tuple[float, float], int]
"""(noise multiplier, sample rate) -> steps: all that one unit has paid, in no order (composition has none)."""


@dataclass(frozen=True)
class Payment:
    """One reading that went into a broadcast.

    Attributes:
        branch: where it was broadcast.
        clients: whose data were read; None: everybody's.
        forget: records, by client, that were left out; or, where ``of`` is ``forgotten``, exactly what was read.
        of: ``retained`` or ``forgotten``.
        charge: its price, for each unit that was read.
    """

    branch: int
    clients: frozenset[int] | None
    forget: Forget
    of: str
    charge: Charge

    def concerns(self, unit: Unit, client: int, record: int | None, size: int) -> bool:
        """Whether a unit was read.

        Args:
            unit: what the account is kept for.
            client: whose.
            record: which of its records; None: one that is never deleted, of those it has.
            size: its records before any deletion.
        """
        if self.clients is not None and client not in self.clients:
            return False
        named = self.forget.get(client, ())
        if unit == "client":
            return bool(named) if self.of == "forgotten" else len(named) < size
        if record is None:
            return self.of == "retained"
        return (record in named) == (self.of == "forgotten")


@dataclass
class Account:
    """What one arm, or the training that arms share, has spent.

    Attributes:
        unit: what it is kept for; None where there is no differential privacy: nothing is written down then.
        sizes: ``[clients]`` records of each client before any deletion.
        entries: all readings, oldest first.
        marks: rounds of training -> number of entries on branch 0 by then.
        forks: branch -> (the branch it left, number of entries by then).
    """

    unit: Unit | None
    sizes: Array
    entries: list[Payment] = field(default_factory=list)
    marks: dict[int, int] = field(default_factory=dict)
    forks: dict[int, tuple[int, int]] = field(default_factory=dict)

    def charge(
        self,
        branch: int,
        clients: Collection[int] | None,
        forget: Forget,
        charge: Charge,
        of: str = "retained",
    ) -> None:
        """Write one reading down; see ``Payment``."""
        if self.unit is not None:
            payers = None if clients is None else frozenset(clients)
            self.entries.append(Payment(branch, payers, forget, of, charge))

    def mark(self, round: int) -> None:
        """Remember what the trunk had spent after so many rounds."""
        self.marks[round] = len(self.entries)

    def copy(self) -> "Account":
        """An account that goes on by itself."""
        return Account(self.unit, self.sizes, list(self.entries), dict(self.marks), dict(self.forks))

    def rewind(self, round: int) -> None:
        """Strike out what was spent after so many rounds of the trunk: a chain leaves it there."""
        del self.entries[self.marks[round] :]

    def fork(self, branch: int, parent: int = 0, round: int | None = None) -> None:
        """Begin a branch, which inherits what its parent has spent (after so many rounds of the trunk, or by now)."""
        self.forks[branch] = parent, len(self.entries) if round is None else self.marks[round]

    def spent(self, branch: int, client: int, record: int | None = None, until: int | None = None) -> Spending:
        """All that a unit has paid on a branch and on what the branch came from.

        Args:
            branch: the branch.
            client: whose unit.
            record: which of its records; None: one that is never deleted. Ignored where units are clients.
            until: number of entries to look at; None: all.
        """
        if self.unit is None:
            return {}
        size, total = int(self.sizes[client]), Counter[tuple[float, float]]()
        for entry in self._past(branch, len(self.entries) if until is None else until):
            if entry.concerns(self.unit, client, record, size):
                total[entry.charge.noise_multiplier, entry.charge.sample_rate] += entry.charge.steps
        return total

    def spent_on_all_branches(self, client: int, record: int | None = None) -> Spending:
        """All that a unit has paid on any branch: what somebody reads who hears every branch; see ``spent``."""
        if self.unit is None:
            return {}
        size, total = int(self.sizes[client]), Counter[tuple[float, float]]()
        for entry in self.entries:
            if entry.concerns(self.unit, client, record, size):
                total[entry.charge.noise_multiplier, entry.charge.sample_rate] += entry.charge.steps
        return total

    def of_everybody(self, branch: int, until: int | None = None) -> list[Spending]:
        """For each client what a unit of it that is never deleted has paid; see ``spent``."""
        totals = [Counter[tuple[float, float]]() for _ in self.sizes]
        for entry in self._past(branch, len(self.entries) if until is None else until):
            price = entry.charge
            for client in range(len(totals)) if entry.clients is None else entry.clients:
                if self.unit is not None and entry.concerns(self.unit, client, None, int(self.sizes[client])):
                    totals[client][price.noise_multiplier, price.sample_rate] += price.steps
        return list(totals)

    def _past(self, branch: int, until: int) -> Iterator[Payment]:
        """Entries of a branch, and those of its ancestors from before it left them."""
        if branch in self.forks:
            parent, position = self.forks[branch]
            yield from self._past(parent, min(position, until))
        yield from (entry for entry in self.entries[:until] if entry.branch == branch)
