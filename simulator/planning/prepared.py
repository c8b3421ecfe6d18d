"""Everything that a training needs and that can be wrong, before anything starts."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.server.blocks import cohort
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.planning.plan import Prefix, Setting
from palimpsest.simulator.planning.privacy import defended
from palimpsest.simulator.planning.public_sample import sample
from palimpsest.simulator.planning.public_start import public_start
from palimpsest.simulator.planning.requests import draw_requests
from palimpsest.simulator.planning.setup import setup_of
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.data.build import load_population, open_population, population_directory
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.errors import DataError, ModelError
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.specs import Precision

if TYPE_CHECKING:
    from palimpsest.simulator.federation.federation import GridFederation
    from palimpsest.simulator.federation.grids import Grid


@dataclass(frozen=True)
class PreparedTraining:
    """All that a training needs and that can be wrong, before anything is started.

    Attributes:
        setting: data, model, training and deletion of the variant.
        seed, entropy: of the training.
        population: the data.
        directory: where hosts find the population.
        setup: the training.
        requests: what will be deleted.
        device: where hosts compute.
        precision: of what they compute in float32.
    """

    setting: Setting
    seed: int
    entropy: int = field(repr=False)
    population: AbstractPopulation
    directory: Path
    setup: Setup
    requests: tuple[DeletionRequest, ...]
    device: str = "cpu"
    precision: Precision = "highest"

    @classmethod
    def of(cls, scenario: Scenario, prefix: Prefix, root: Path) -> "PreparedTraining":
        """Load the data and resolve everything that depends on it.

        Raises:
            DataError: the data are unusable, or the scenario does not fit them.
            ModelError: the model cannot be built or trained, or has no layer that an attack reads.
            ScenarioError: the deletions do not fit the data.
        """
        setting, seed = prefix.setting, prefix.entropy
        population = load_population(setting.data, seed, root)
        _check_classes(prefix, population)
        _check_sites(scenario, population)
        for granted in {arm.setting.variant: arm.setting for arm in prefix.arms}.values():
            sample(granted, population, seed)
        setup = replace(
            setup_of(setting, population, seed),
            block_size=scenario.runtime.block_size,
            sites=scenario.runtime.sites,
            keep_working=setting.adversary.sees == "broadcasts",
            secure_noise=scenario.privacy.secure_noise,
            sampling_is_secret=scenario.privacy.sampling_is_secret,
        )
        _check_model(prefix, model_of(setup.spec))
        _check_cohorts(setup)
        setup = replace(setup, start=public_start(setting, population, setup, seed))
        setup = defended(setup, prefix.defenses, scenario.privacy)
        requests = setup.defense.schedule(draw_requests(setting.deletion, population, setup.rounds, seed))
        directory = population_directory(setting.data, seed, root)
        precision = scenario.runtime.precision
        return cls(setting, prefix.seed, seed, population, directory, setup, requests, precision=precision)

    @property
    def label(self) -> str:
        """Of the training, for the user."""
        return " ".join(part for part in (self.setting.variant, f"seed {self.seed}") if part)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the population out, in a message to a host: every process maps it into memory for itself."""
        directory, hosts = self.directory.resolve(), (self.device, self.precision)
        return _mapped, (self.setting, self.seed, self.entropy, directory, self.setup, self.requests, *hosts)

    def federation(self, grid: "Grid", arm: str) -> "GridFederation":
        """The clients under one arm's tombstones, with costs of its own."""
        from palimpsest.simulator.federation.federation import GridFederation  # with Flower and Ray: a second

        about = {"data": self.setting.data.model_dump(mode="json"), "directory": str(self.directory.resolve())}
        hosts = self.setup.sites, self.device, self.precision
        return GridFederation(grid, about, self.population.sizes, self.entropy, arm, *hosts)


def _mapped(setting: Setting, seed: int, entropy: int, directory: Path, *rest: Any) -> PreparedTraining:
    return PreparedTraining(setting, seed, entropy, open_population(setting.data, directory), directory, *rest)


def _check_sites(scenario: Scenario, population: AbstractPopulation) -> None:
    if scenario.runtime.sites > population.clients:
        raise DataError(
            f"runtime.sites = {scenario.runtime.sites}: there are {population.clients} clients, and every site holds "
            f"some; give at most as many, or 0"
        )


def _check_cohorts(setup: Setup) -> None:
    """Refuse client sampling that trains nobody."""
    rate, lineage = setup.plan.sampling_rate, Lineage(branch=0, forget={})
    if rate and not any(cohort(setup, lineage, round) for round in range(setup.rounds)):
        raise DataError(
            f"training.sampling.rate = {rate:g}: no client takes part in any of the {setup.rounds} rounds of seed "
            f"{setup.seed}; with {len(setup.sizes)} clients a rate of {1.0 / len(setup.sizes):.2g} draws one a round"
        )


def _check_model(prefix: Prefix, model: Model) -> None:
    """Refuse attacks on a last layer that only the module itself shows not to be there."""
    asking = {attack.kind for arm in prefix.arms for attack in arm.attacks if "last layer" in attack.card.traits}
    for name in sorted(asking):
        try:
            _ = model.last_layer
        except ModelError as error:
            raise ModelError(f"attack.kind = {name!r}: {error}") from None


def _check_classes(prefix: Prefix, population: AbstractPopulation) -> None:
    if population.schema.task == "classification":
        return
    but = f"needs classes, but {population.schema.name} has a real-valued target"
    for arm in prefix.arms:
        if "classes" in arm.unlearning.card.needs:
            raise DataError(f"unlearning method {arm.unlearning.method!r} {but}: take another method")
        for attack in arm.attacks:
            if "classes" in attack.card.needs:
                raise DataError(f"attack {attack.kind!r} {but}: take an attack that answers with records")
