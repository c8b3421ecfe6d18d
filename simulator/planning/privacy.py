"""Where defenses meet a training: what they are calibrated to, and what has been spent in the end."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from palimpsest.defenses.accountant import Accountant, epsilon
from palimpsest.defenses.stack import Stack
from palimpsest.server.history import History
from palimpsest.server.rehearsal import training_account, unlearning_account
from palimpsest.server.session import Processed
from palimpsest.server.setup import Setup
from palimpsest.simulator.scenario.sections import PrivacyConfig
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.privacy.account import Account, Spending
from palimpsest.simulator.world.protocols.defense import Defense, private_part
from palimpsest.simulator.world.protocols.unlearning import Unlearner, UnlearningCase
from palimpsest.simulator.world.records import Forget

Paid: TypeAlias = frozenset[tuple[tuple[float, float], int]]
"""The items of a spending."""

PriceByNoise: TypeAlias = Callable[[float], float]
"""The highest epsilon of any unit, by the noise multiplier."""


def defended(setup: Setup, parts: Sequence[Defense], privacy: PrivacyConfig) -> Setup:
    """The training under the parts of a defense that act in it, calibrated to it, with an account to charge.

    Raises:
        DataError: the training alone would pass the budget.
    """
    defense = parts[0] if len(parts) == 1 else Stack(of=tuple(parts)) if parts else Defense()
    meter = EpsilonMeter(privacy.delta, privacy.accountant)

    def under(candidate: Defense) -> Setup:
        part = private_part(candidate)
        return replace(
            setup,
            defense=candidate,
            spec=candidate.model(setup.spec),
            account=Account(part.card.unit if part else None, setup.sizes),
        )

    price = TrainingPrice(meter, lambda candidate: training_account(under(candidate)))
    try:
        calibrated = defense.calibrated(price)
        if calibrated is not defense and price.rehearsed(calibrated) != price(calibrated):
            calibrated = defense.calibrated(price.rehearsed)  # its charges are not what at_unit_noise says
    except ValueError as error:
        raise DataError(
            f"target_epsilon of {_kind(defense)!r} at privacy.delta = {privacy.delta:g} {error} (privacy.accountant = "
            f"{privacy.accountant!r})"
        ) from error
    found = under(calibrated)
    if privacy.budget and found.private and (spent := price.rehearsed(found.defense)) > privacy.budget:
        raise DataError(
            f"privacy.budget = {privacy.budget:g}: the training alone spends epsilon = {spent:.3g} under "
            f"{defense.kind!r}; raise the budget or the noise"
        )
    return found


def _kind(defense: Defense) -> str:
    part = private_part(defense)
    return part.kind if part else defense.kind


@dataclass(frozen=True)
class EpsilonMeter:
    """Reads accounts in epsilon.

    Attributes:
        delta: at which.
        accountant: how.
    """

    delta: float
    accountant: Accountant = "tightest"

    def of(self, spending: Spending) -> float:
        """Epsilon of what one unit has paid."""
        return epsilon(spending, self.delta, self.accountant)

    def highest(self, account: Account, branches: Iterable[int], until: int | None = None) -> float:
        """The highest epsilon of any unit that is never deleted."""
        kept = (paid for branch in branches for paid in _of_those_with_records(account, branch, {}, until))
        distinct = {frozenset(paid.items()) for paid in kept}
        return max(map(self.of, _undominated([dict(paid) for paid in distinct])), default=0.0)

    def retained(self, account: Account, branch: int, forgotten: Forget, until: int | None = None) -> list[float]:
        """Epsilon of a record that each client keeps (of each client that keeps any, where units are clients)."""
        return list(map(self.of, _of_those_with_records(account, branch, forgotten, until)))

    def deleted(self, account: Account, case: UnlearningCase, until: int | None = None) -> list[float]:
        """Epsilon of a deleted record of each client in a case (of each such client)."""
        return [
            self.of(account.spent(case.branch, client, records[0], until))
            for client, records in case.request.forget.items()
            if records
        ]


@dataclass(frozen=True)
class NotingMeter(EpsilonMeter):
    """Notes down what it is asked for.

    Attributes:
        asked: every spending that was read.
        reads: whether it also says what they amount to; else it says 0, which takes no time.
    """

    asked: set[Paid] = field(default_factory=set)
    reads: bool = True

    def of(self, spending: Spending) -> float:
        """Epsilon of what one unit has paid, noted down."""
        self.asked.add(frozenset(spending.items()))
        return super().of(spending) if self.reads else 0.0

    def highest_at(self, noise: float) -> float:
        """The highest epsilon of all that was asked for, each with so many times the noise."""
        plain = EpsilonMeter(self.delta, self.accountant)
        prices = [{(sigma * noise, rate): steps for (sigma, rate), steps in paid} for paid in self.asked]
        return max(map(plain.of, prices), default=0.0)


def by_noise(meter: EpsilonMeter, account: Account) -> PriceByNoise:
    """The highest epsilon that a unit pays for a training, by its noise multiplier.

    Args:
        meter: how accounts are read.
        account: of the training, rehearsed at a noise multiplier of 1.
    """
    noting = NotingMeter(meter.delta, meter.accountant, reads=False)
    noting.highest(account, [0])
    return noting.highest_at


class TrainingPrice:
    """The highest epsilon that a unit pays for a training, by the defense that it is under.

    Args:
        meter: how accounts are read.
        rehearsed: the account of the training under a defense.
    """

    def __init__(self, meter: EpsilonMeter, rehearsed: Callable[[Defense], Account]) -> None:
        self._meter = meter
        self._rehearsed = rehearsed
        self._known: dict[Defense, PriceByNoise] = {}

    def __call__(self, defense: Defense) -> float:
        """By the rehearsal at unit noise, where the defense has one."""
        unit = defense.at_unit_noise()
        if unit is None:
            return self.rehearsed(defense)
        alike, noise = unit
        if alike not in self._known:
            self._known[alike] = by_noise(self._meter, self._rehearsed(alike))
        return self._known[alike](noise)

    def rehearsed(self, defense: Defense) -> float:
        """By a rehearsal under this very defense."""
        return self._meter.highest(self._rehearsed(defense), [0])


def _of_those_with_records(account: Account, branch: int, forgotten: Forget, until: int | None) -> list[Spending]:
    """What a unit of each client has paid that has any record left: a null client has nobody whose privacy it is."""
    left = [int(size) - len(forgotten.get(client, ())) for client, size in enumerate(account.sizes)]
    return [paid for paid, records in zip(account.of_everybody(branch, until), left, strict=True) if records]


def _undominated(spendings: Sequence[Spending]) -> list[Spending]:
    """Those to which no other has paid as much of everything, and more of something: the rest cannot be highest."""
    return [
        paid
        for paid in spendings
        if not any(
            other != paid and all(other.get(how, 0) >= steps for how, steps in paid.items()) for other in spendings
        )
    ]


def summary(values: Sequence[float]) -> dict[str, float]:
    """The highest and the median; nothing where there are no values, or where a unit paid without limit."""
    if not values or math.isinf(highest := max(values)):
        return {}
    return {"max": float(highest), "median": float(np.median(values))}


@dataclass(frozen=True)
class PrivacyBudget:
    """Says what deletions cost, and refuses those that cost too much.

    Attributes:
        meter: how accounts are read.
        budget: epsilon that no unit may pass; 0: none.
    """

    meter: EpsilonMeter
    budget: float = 0.0

    def refusals(self, history: History, unlearner: Unlearner, cases: Sequence[UnlearningCase]) -> dict[int, str]:
        """Request -> why it is refused: its processing would have some unit pass the budget."""
        account = history.record.setup.account
        if not self.budget or account.unit is None or not cases:
            return {}
        then, reasons = unlearning_account(history, unlearner, cases), {}
        for case in cases:
            now, after = self._highest(account, case), self._highest(then, case)
            if after > self.budget and after > now:
                reasons[case.request.index] = (
                    f"its processing would have a {account.unit} spend epsilon = {after:.3g} (so far {now:.3g}), and "
                    f"privacy.budget = {self.budget:g}"
                )
        return reasons

    def statement(self, account: Account, case: UnlearningCase, before: int) -> dict[str, Any]:
        """What a processed request's units have spent, before it and after it.

        Args:
            account: of the arm.
            case: what was processed.
            before: number of entries before that.
        """
        if account.unit is None:
            return {}
        spent: dict[str, Any] = {"unit": account.unit, "delta": self.meter.delta, "deleted": {}, "retained": {}}
        for when, until in (("before", before), ("after", None)):
            if deleted := summary(self.meter.deleted(account, case, until)):
                spent["deleted"][when] = deleted
            if retained := summary(self.meter.retained(account, case.branch, case.forgotten, until)):
                spent["retained"][when] = retained
        return spent

    def _highest(self, account: Account, case: UnlearningCase) -> float:
        kept = self.meter.retained(account, case.branch, case.forgotten)
        return max([0.0, *kept, *self.meter.deleted(account, case)])


def privacy_entry(account: Account, privacy_budget: PrivacyBudget, processed: Sequence[Processed]) -> dict[str, Any]:
    """What ``results.json`` says of an arm's privacy; see ``PrivacyBudget.statement`` (medians over cases)."""
    meter = privacy_budget.meter
    if account.unit is None:
        return {"unit": "record", "epsilon_max": None, "delta": meter.delta}
    entry: dict[str, Any] = {"unit": account.unit, "delta": meter.delta, "accountant": meter.accountant}
    statements = [p.spent for p in processed]
    for whose in ("deleted", "retained"):
        privacy = {
            when: [said[whose][when] for said in statements if when in said[whose]] for when in ("before", "after")
        }
        entry[whose] = {
            when: {"max": max(s["max"] for s in all_), "median": float(np.median([s["median"] for s in all_]))}
            for when, all_ in privacy.items()
            if all_
        }
    branches = {p.case.branch for p in processed} or {0}
    known = [entry[whose][when]["max"] for whose in ("deleted", "retained") for when in entry[whose]]
    highest = max([*known, meter.highest(account, branches)])
    return entry | {"epsilon_max": highest if math.isfinite(highest) else None}
