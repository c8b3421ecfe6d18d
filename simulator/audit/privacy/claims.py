"""What an audit of differential privacy finds: a claim beside what canaries lost, and whether it holds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from palimpsest.defenses.accountant import Accountant, epsilon
from palimpsest.defenses.bound import blow_up
from palimpsest.defenses.dp_sgd import DpSgd
from palimpsest.simulator.audit.privacy.estimate import gaussian_epsilon, loss_of, one_run_epsilon
from palimpsest.simulator.audit.privacy.games import Game, many_canaries
from palimpsest.simulator.world.privacy.account import Spending
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Frozen

Verdict: TypeAlias = Literal["holds", "refuted", "loose"]
"""``refuted``: more is lost than is claimed. ``loose``: a canary that should lose all that is claimed loses less than
``LOOSE`` of it: there is more noise than is accounted for, or the accountant counts too much."""

LOOSE = 0.8
_ERROR = 0.05

Claim: TypeAlias = Callable[[Spending, float], float]
"""Epsilon of a spending at a delta."""


@dataclass(frozen=True)
class Audited:
    """A mechanism under audit.

    Attributes:
        name: for the table.
        game: how it is played.
        arms: of a scenario, whose claim this is.
    """

    name: str
    game: Game
    arms: tuple[str, ...] = ()


class AuditRow(Frozen):
    """One claim.

    Attributes:
        name, arms: of ``Audited``.
        claimed: epsilon by the accountant.
        measured, low, high: epsilon of the Gaussian trade-off curve through what the trials measured, and its ends.
            With sampling the curve is no Gaussian one: a figure to compare, no bound. ``high`` is None where there is
            no upper end, as all trials tell the two worlds apart.
        direct: by log((TPR - delta) / FPR): is lost at least, whatever the mechanism.
        sampled: whether sampling is counted on.
        trials: of each world, that were counted.
        verdict: see ``Verdict``.
    """

    name: str
    claimed: float
    measured: float
    low: float
    high: float | None
    direct: float
    sampled: bool
    trials: int
    verdict: Verdict
    arms: tuple[str, ...] = ()


class OneRunRow(Frozen):
    """An audit in one run.

    Attributes:
        claimed: epsilon by the accountant.
        low: that is lost at least.
        canaries, guesses, correct: in the run, ventured, and right.
    """

    name: str
    claimed: float
    low: float
    canaries: int
    guesses: int
    correct: int


class Unclaimed(Frozen):
    """Arms under a private defense that claim nothing: their dearest unit was read without noise; see ``Audited``."""

    name: str
    arms: tuple[str, ...]


class PrivacyAudit(Frozen):
    """Content of the file that an audit leaves; bounds of all rows, of ``one_run`` too, hold together with 95 %."""

    schema_version: int = 1
    delta: float
    accountant: Accountant
    seed: int
    rows: tuple[AuditRow, ...]
    one_run: tuple[OneRunRow, ...] = ()
    unclaimed: tuple[Unclaimed, ...] = ()

    @property
    def refuted(self) -> list[str]:
        """Names of the claims that do not hold."""
        runs = [row.name for row in self.one_run if row.low > row.claimed]
        return [row.name for row in self.rows if row.verdict == "refuted"] + runs


def audited(
    mechanisms: Sequence[Audited],
    delta: float,
    trials: int,
    seed: int,
    accountant: Accountant = "tightest",
    claim: Claim | None = None,
    beside: int = 0,
    told: Callable[[AuditRow], None] = lambda row: None,
) -> tuple[AuditRow, ...]:
    """Play every game, and compare.

    Args:
        mechanisms: in the order of the rows.
        delta: of the claims.
        trials: of each world; half of them choose the threshold.
        seed: of the trials.
        accountant: that claims.
        claim: in its place.
        beside: claims that are audited in another way, in the same audit: all share the chance of an error.
        told: is told each row when it is there.
    """
    stated = claim or (lambda spending, at: epsilon(spending, at, accountant))
    rows = []
    for number, mechanism in enumerate(mechanisms):
        rng = generator(seed, "privacy-audit", number)
        rows.append(_row(mechanism, stated, delta, trials, _ERROR / (len(mechanisms) + beside), rng))
        told(rows[-1])
    return tuple(rows)


def _row(
    mechanism: Audited, claim: Claim, delta: float, trials: int, error: float, rng: np.random.Generator
) -> AuditRow:
    game = mechanism.game
    absent, present = (game.scores(there, trials, rng) for there in (False, True))
    loss, spending = loss_of(absent, present, delta, error), game.spending
    sampled = any(rate < 1.0 for (_, rate), steps in spending.items() if steps)
    claimed = claim(spending, delta)
    low, high = gaussian_epsilon(loss.mu_low, delta), gaussian_epsilon(loss.mu_high, delta)
    verdict: Verdict = "holds"
    if max(loss.direct, 0.0 if sampled else low) > claimed or loss.true_low > blow_up(spending, loss.false_high):
        verdict = "refuted"
    elif game.tight and not sampled and high < LOOSE * claimed:
        verdict = "loose"
    return AuditRow(
        name=mechanism.name,
        claimed=claimed,
        measured=gaussian_epsilon(max(loss.mu, 0.0), delta),
        low=low,
        high=high if math.isfinite(high) else None,
        direct=loss.direct,
        sampled=sampled,
        trials=loss.trials,
        verdict=verdict,
        arms=mechanism.arms,
    )


def in_one_run(
    defense: DpSgd, delta: float, canaries: int, seed: int, accountant: Accountant, beside: int = 0
) -> OneRunRow:
    """Audit one noisy step of dp-sgd with many canaries in it; a tenth is ventured as there, a tenth as not there.

    Args:
        defense: whose step it is.
        delta: of the claim.
        canaries: at least ten.
        seed: of the run.
        accountant: that claims.
        beside: claims that ``audited`` judges in the same audit: all share the chance of an error.
    """
    there, scores = many_canaries(defense, canaries, generator(seed, "privacy-audit-in-one-run"))
    order, ventured = np.argsort(scores), canaries // 10
    correct = int(there[order[-ventured:]].sum() + (~there[order[:ventured]]).sum())
    charge = defense.charge_once()
    return OneRunRow(
        name="dp-sgd, one release, one run",
        claimed=epsilon({(charge.noise_multiplier, charge.sample_rate): charge.steps}, delta, accountant),
        low=one_run_epsilon(correct, 2 * ventured, canaries, delta, _ERROR / (1 + beside)),
        canaries=canaries,
        guesses=2 * ventured,
        correct=correct,
    )
