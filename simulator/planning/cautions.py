"""What a scenario may ask for, but is hardly meant so: one line each, for a terminal."""

from collections.abc import Iterable, Iterator, Sequence

from palimpsest.simulator.planning.epsilon_forecast import is_private
from palimpsest.simulator.planning.plan import Plan
from palimpsest.simulator.scenario.sections import PrivacyConfig
from palimpsest.simulator.world.cards import Unit
from palimpsest.simulator.world.data.build import load_population
from palimpsest.simulator.world.files import cache_directory
from palimpsest.simulator.world.protocols.defense import Defense, private_part
from palimpsest.simulator.world.records import Array


def of_plan(plan: Plan, privacy: PrivacyConfig) -> list[str]:
    """The cautions of a plan.

    Raises:
        DataError: the data cannot be used.
    """
    cache = cache_directory() / "populations"
    private = filter(is_private, plan.prefixes)
    return cautions(privacy, ((p.defenses, load_population(p.setting.data, p.seed, cache).sizes) for p in private))


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
