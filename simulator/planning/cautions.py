"""What a scenario may ask for, but is hardly meant so: one line each, for a terminal."""

from collections.abc import Iterable, Iterator, Sequence

from palimpsest.simulator.planning.epsilon_forecast import is_private
from palimpsest.simulator.planning.plan import Plan
from palimpsest.simulator.scenario.sections import PrivacyConfig, TrainingConfig
from palimpsest.simulator.world.cards import Unit
from palimpsest.simulator.world.data.build import load_population
from palimpsest.simulator.world.files import cache_directory
from palimpsest.simulator.world.protocols.defense import Defense, private_part
from palimpsest.simulator.world.records import Array

_STILL = 1e-9
"""Parameters, of single precision and mostly above a hundredth, are not moved by less."""
_DROWNED = 1e6
"""No parameter of a model that learns is as large."""


def of_plan(plan: Plan, privacy: PrivacyConfig) -> list[str]:
    """The cautions of a plan.

    Raises:
        DataError: the data cannot be used.
    """
    cache = cache_directory() / "populations"
    populations = [load_population(prefix.setting.data, prefix.entropy, cache) for prefix in plan.prefixes]
    private = [(p, population) for p, population in zip(plan.prefixes, populations, strict=True) if is_private(p)]
    return [
        *cautions(privacy, ((prefix.defenses, population.sizes) for prefix, population in private)),
        *of_magnitudes(plan, [population.clients for population in populations]),
    ]


def of_magnitudes(plan: Plan, clients: Sequence[int]) -> list[str]:
    """Warn of numbers with which nothing is drawn, nothing moves, or everything is drowned: each once.

    Args:
        plan: of the scenario.
        clients: of each of its trainings, in order.
    """
    lines = []
    for prefix, count in zip(plan.prefixes, clients, strict=True):
        lines += list(_of_steps(prefix.setting.training, count))
        for arm in prefix.arms:
            lines += [line for part in arm.defense.parts() for line in _of_noise(part, arm.setting.training)]
    return list(dict.fromkeys(f"warning   {line}" for line in lines))


def _of_steps(training: TrainingConfig, clients: int) -> Iterator[str]:
    if training.algorithm not in ("fedavg", "fedsgd"):
        return
    if training.sampling is not None and training.sampling.rate * clients < 1.0:
        expected = training.sampling.rate * clients
        yield (
            f"training.sampling.rate = {training.sampling.rate:g}: of {clients} clients {expected:.2g} are drawn in a "
            f"round in expectation: most rounds train nothing, and who was never drawn leaves no trace to delete"
        )
    if training.learning_rate < _STILL:
        yield (
            f"training.learning_rate = {training.learning_rate:g}: parameters have seven digits, so that none of them "
            f"moves"
        )


def _of_noise(part: Defense, training: TrainingConfig) -> Iterator[str]:
    """What a defense's numbers do to any model, by the names that noise and bounds have in all defenses."""
    given = part.model_dump()
    clip, noise, sigma = (_number(given.get(key)) for key in ("clip", "noise_multiplier", "sigma"))
    step = training.learning_rate if part.card.unit == "record" else 1.0
    if clip and clip * max(noise or 0.0, 1.0) * min(step, 1.0) < _STILL:
        yield (
            f"clip = {clip:g} under {part.kind!r}: updates are so short that no parameter moves, as they have seven "
            f"digits"
        )
    deviation = sigma if sigma is not None else clip * noise if clip and noise else 0.0
    if deviation > _DROWNED:
        yield f"noise of deviation {deviation:.2g} under {part.kind!r} drowns any model, and may overflow: give less"


def _number(value: object) -> float | None:
    """None for what is no number: another package's defense may have anything by these names."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def cautions(privacy: PrivacyConfig, trainings: Iterable[tuple[Sequence[Defense], Array]]) -> list[str]:
    """Warn of a delta that promises little: each once.

    Args:
        privacy: delta.
        trainings: defenses, and ``[clients]`` records of each client.
    """
    return list(dict.fromkeys(line for parts, sizes in trainings for line in _of_training(privacy, parts, sizes)))


def _of_training(privacy: PrivacyConfig, defenses: Sequence[Defense], sizes: Array) -> Iterator[str]:
    for part in filter(None, map(private_part, defenses)):
        count = _units(part.card.unit, sizes)
        if privacy.delta > 1.0 / max(count, 1):
            yield (
                f"warning   privacy.delta = {privacy.delta:g} is above 1 / {count} {part.card.unit}s under "
                f"{part.kind!r}: publishing the data of one of them, drawn at random, would satisfy it; take less than "
                f"{1.0 / max(count, 1):.1g}"
            )


def _units(unit: Unit | None, sizes: Array) -> int:
    return len(sizes) if unit == "client" else int(sizes.sum())
