"""What is audited: every mechanism at one epsilon, or what every private arm of a scenario has its dearest unit pay."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from palimpsest.defenses.accountant import Accountant, epsilon
from palimpsest.defenses.calibration import smallest_noise
from palimpsest.defenses.central_dp import CentralDp
from palimpsest.defenses.dp_sgd import DpSgd
from palimpsest.defenses.dp_statistics import DpStatistics
from palimpsest.defenses.output_perturbation import OutputPerturbation
from palimpsest.server.blocks import expected_cohort
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.audit.privacy.claims import Audited, Unclaimed
from palimpsest.simulator.audit.privacy.games import (
    Composed,
    Game,
    LocalSteps,
    NoisedAverages,
    NoisedSolutions,
    NoisedStatistics,
    PrivateSums,
)
from palimpsest.simulator.planning.epsilon_forecast import dearest, is_private
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.privacy.account import Spending
from palimpsest.simulator.world.protocols.defense import Defense, private_part

_TEN = 10
_BATCHES, _RATE = 5, 0.1


def standard(target: float, delta: float, accountant: Accountant) -> list[Audited]:
    """Every place where noise enters, each with the noise that the product finds for ``target``."""
    games: list[tuple[str, Callable[[float], Game]]] = [
        ("dp-sgd, one release", lambda s: LocalSteps(DpSgd(noise_multiplier=s))),
        ("dp-sgd, ten rounds", lambda s: LocalSteps(DpSgd(noise_multiplier=s), rounds=_TEN)),
        (
            f"dp-sgd, ten rounds of {_BATCHES} batches",
            lambda s: LocalSteps(DpSgd(noise_multiplier=s), _BATCHES, _BATCHES, _TEN),
        ),
        ("dp-sgd, a gradient (ascent)", lambda s: PrivateSums(DpSgd(noise_multiplier=s))),
        ("central-dp, one round", lambda s: NoisedAverages(CentralDp(noise_multiplier=s))),
        ("central-dp, ten rounds", lambda s: NoisedAverages(CentralDp(noise_multiplier=s), _TEN)),
        (
            f"central-dp, ten at secret rate {_RATE:g}",
            lambda s: NoisedAverages(CentralDp(noise_multiplier=s), _TEN, _RATE),
        ),
        ("dp-statistics, one release", lambda s: NoisedStatistics(DpStatistics(noise_multiplier=s))),
        ("output-perturbation, one release", lambda s: NoisedSolutions(OutputPerturbation(noise_multiplier=s))),
    ]
    return [Audited(name, make(_noise(make, target, delta, accountant))) for name, make in games]


def _noise(make: Callable[[float], Game], target: float, delta: float, accountant: Accountant) -> float:
    return smallest_noise(lambda sigma: epsilon(make(sigma).spending, delta, accountant), target)


def of_scenario(scenario: Scenario, root: Path) -> tuple[list[Audited], tuple[Unclaimed, ...]]:
    """What every private arm has its dearest unit pay, training and deletions; arms that pay the same are one.

    Args:
        scenario: with a private arm at least.
        root: where populations are cached.

    Returns:
        What is audited; and the arms that claim nothing, as some reading of the unit had no noise (``same-noise``).

    Raises:
        ScenarioError: no arm is private, or one has paid what no game charges.
        DataError: the data do not fit.
    """
    alike: dict[Any, list[str]] = {}
    games: dict[Any, Game | None] = {}
    for prefix in plan(scenario).prefixes:
        if not is_private(prefix):
            continue
        setup, spent = dearest(scenario, prefix, root)
        part = private_part(setup.defense)
        assert part is not None
        for arm, spending in spent.items():
            key = (part, frozenset(spending.items()))
            alike.setdefault(key, []).append(arm)
            games[key] = None if _bare(spending) else game_of(part, setup, spending)
    if not games:
        raise ScenarioError("audit-dp: no arm of the scenario is under a defense that claims differential privacy")
    named = [(_called(arms), games[key], tuple(arms)) for key, arms in alike.items()]
    return (
        [Audited(name, game, arms) for name, game, arms in named if game is not None],
        tuple(Unclaimed(name=name, arms=arms) for name, game, arms in named if game is None),
    )


def _bare(spending: Spending) -> bool:
    """Whether anything was read without noise: epsilon is infinite."""
    return any(noise == 0.0 and rate > 0.0 and steps > 0 for (noise, rate), steps in spending.items())


def _called(arms: Sequence[str]) -> str:
    return arms[0] if len(arms) == 1 else f"{arms[0]} (+{len(arms) - 1})"


def game_of(part: Defense, setup: Setup, spending: Spending) -> Game:
    """The game in which a canary pays exactly this.

    Args:
        part: the private defense.
        setup: of the training.
        spending: of one unit.

    Raises:
        ScenarioError: no game is known for the defense, steps are no whole rounds, or something else was paid than the
            game charges, such as for a reading without noise.
    """
    makes: Mapping[type[Defense], Callable[[Any, Setup, float, int], Game]] = {
        DpSgd: _local,
        CentralDp: _central,
        DpStatistics: lambda defense, setup, rate, steps: NoisedStatistics(defense, steps),
        OutputPerturbation: lambda defense, setup, rate, steps: NoisedSolutions(defense, steps),
    }
    if type(part) not in makes:
        raise ScenarioError(
            f"audit-dp: defense {part.kind!r} has no canary game; those of dp-sgd, central-dp, dp-statistics and "
            f"output-perturbation are known"
        )
    played = [makes[type(part)](part, setup, rate, steps) for (_, rate), steps in sorted(spending.items()) if steps]
    game = played[0] if len(played) == 1 else Composed(tuple(played))
    if dict(game.spending) != (paid := {how: steps for how, steps in spending.items() if steps}):
        raise ScenarioError(
            f"audit-dp: the dearest unit under {part.kind!r} has paid {_priced(paid)}, and a canary in its place would "
            f"pay {_priced(game.spending)}: readings at the noise of the defense alone can be audited"
        )
    return game


def _priced(spending: Spending) -> str:
    """What was paid, in words."""
    each = (f"{steps} steps at noise {noise:g} and rate {rate:g}" for (noise, rate), steps in sorted(spending.items()))
    return ", ".join(each) or "nothing"


def _local(defense: DpSgd, setup: Setup, rate: float, steps: int) -> Game:
    """Rounds of local steps; what is not sampled is a gradient each."""
    batches = round(1.0 / rate)
    if batches == 1:
        return PrivateSums(defense, steps)
    recipe = setup.recipe
    a_round = recipe.local_steps or batches * recipe.local_epochs
    if steps % a_round:
        raise ScenarioError(
            f"audit-dp: the dearest unit of {defense.kind!r} has paid for {steps} sampled steps, and a round has "
            f"{a_round}: whole rounds alone can be audited"
        )
    return LocalSteps(defense, batches, a_round, steps // a_round)


def _central(defense: CentralDp, setup: Setup, rate: float, steps: int) -> Game:
    if defense.target_quantile is not None and defense.count_noise is None:  # a game has another number of clients
        cohort = expected_cohort(setup, Lineage(branch=0, forget={}))
        defense = defense.model_copy(update={"count_noise": max(cohort / 20.0, defense.sigma)})
    return NoisedAverages(defense, steps, rate)
