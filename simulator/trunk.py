"""What arms share: the population, the trained model, the requests, and a hidden retraining to compare with."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from server.arrivals import timeline, union, without
from server.history import History
from server.rehearsal import SilentClients
from server.setup import Setup, TrainingPlan
from server.updates import UpdateStore
from simulator.deletion import draw_requests
from simulator.federation import GridFederation
from simulator.plan import Prefix, Setting
from simulator.privacy import defended
from simulator.public_sample import sample
from simulator.reference import Reference, retrained
from simulator.relearning import relearn
from simulator.scenario import Scenario
from simulator.sections import EvaluationConfig
from simulator.world.data import AbstractPopulation
from simulator.world.datasets import DataError
from simulator.world.models import model_of
from simulator.world.population import load_population, median_bandwidth, open_population, population_directory
from simulator.world.protocols import Drift, UnlearningCase
from simulator.world.records import DeletionRequest, Forget, Params, Release
from simulator.world.seeding import generator
from simulator.world.specs import FeatureSpec, ModelSpec, Recipe
from simulator.yardstick import Yardstick


@dataclass(frozen=True)
class Groundwork:
    """All that a training needs and that can be wrong, before anything is started.

    Attributes:
        setting: data, model, training and deletion of the variant.
        seed: the scenario's seed.
        population: the data.
        directory: where hosts find the population.
        setup: the training.
        requests: what will be deleted.
        device: where hosts compute.
    """

    setting: Setting
    seed: int
    population: AbstractPopulation
    directory: Path
    setup: Setup
    requests: tuple[DeletionRequest, ...]
    device: str = "cpu"

    @classmethod
    def of(cls, scenario: Scenario, prefix: Prefix, root: Path) -> "Groundwork":
        """Load the data and resolve everything that depends on it.

        Raises:
            DataError: the data are unusable, or the scenario does not fit them.
            ScenarioError: the deletions do not fit the data.
        """
        setting, seed = prefix.setting, prefix.seed
        population = load_population(setting.data, seed, root)
        _check_classes(prefix, population)
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
        setup = defended(setup, prefix.defenses, scenario.privacy)
        requests = setup.defense.schedule(draw_requests(setting.deletion, population, setup.rounds, seed))
        return cls(setting, seed, population, population_directory(setting.data, seed, root), setup, requests)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the population out, in a message to a host: every process maps it into memory for itself."""
        directory = self.directory.resolve()
        return _mapped, (self.setting, self.seed, directory, self.setup, self.requests, self.device)

    def federation(self, grid: Grid, arm: str) -> GridFederation:
        """The clients under one arm's tombstones, with costs of its own."""
        about = {"data": self.setting.data.model_dump(mode="json"), "directory": str(self.directory.resolve())}
        return GridFederation(grid, about, self.population.sizes, self.seed, arm, self.setup.sites, self.device)


def _mapped(setting: Setting, seed: int, directory: Path, *rest: Any) -> Groundwork:
    return Groundwork(setting, seed, open_population(setting.data, directory), directory, *rest)


@dataclass(frozen=True)
class Trained:
    """What is left of a ``Trunk`` between two processes; two of one name are the same.

    Attributes:
        name: of the training, on this machine.
        ground: what it is made of.
        history: without the way to the clients, and without the public sample.
        reference: the hidden retrainings.
    """

    name: str
    ground: Groundwork = field(compare=False)
    history: History = field(compare=False)
    reference: Reference = field(compare=False)


@dataclass
class Trunk:
    """One training that several arms branch from.

    Attributes:
        ground: what it is made of.
        grid: Flower's way to the hosts.
        history: what the server keeps, once trained.
        reference: retrainings without a request's records (and those of earlier requests, where sequential).
    """

    ground: Groundwork
    grid: Grid
    history: History
    reference: Reference = field(default_factory=Reference)

    @classmethod
    def of(cls, ground: Groundwork, grid: Grid, needs: Collection[str] = (), scratch: Path = Path()) -> "Trunk":
        """Prepare a training; nothing is sent yet.

        Args:
            ground: what is trained.
            grid: the hosts.
            needs: of the arms' methods; what none of them needs is not kept.
            scratch: for histories that do not fit into memory.
        """
        federation = _clients(ground, grid)
        updates = UpdateStore(scratch) if "client updates" in needs else None
        drifts: list[Drift] | None = [] if "client drift" in needs else None
        shards = UpdateStore(scratch / "shards") if ground.setup.plan.shards > 1 else None
        public = ground.population.public_x
        history = History(ground.setup, federation, updates=updates, public=public, drifts=drifts, checkpoints=shards)
        return cls(ground, grid, history)

    @classmethod
    def taken_up(cls, trained: Trained, grid: Grid) -> "Trunk":
        """A training that is done, before other hosts; nothing is sent yet."""
        ground = trained.ground
        history = replace(trained.history, federation=_clients(ground, grid), public=ground.population.public_x)
        return cls(ground, grid, history, trained.reference)

    def leave(self, name: str) -> Trained:
        """What another process needs to take the training up."""
        return Trained(
            name, self.ground, replace(self.history, federation=SilentClients(), public=None), self.reference
        )

    def train(self) -> Iterator[Release]:
        """Train; yield releases as they come."""
        yield from self.history.run()

    @cached_property
    def yardstick(self) -> Yardstick:
        """What measures the models of all arms."""
        ground = self.ground
        return Yardstick(model_of(ground.setup.spec), ground.population, ground.setting.data.backdoor, ground.seed)

    def retrain_reference(self, how: EvaluationConfig) -> None:
        """Retrain for every request with randomness of its own: the yardstick of what unlearning should reach."""
        cases = self._cases()
        federation = partial(self.ground.federation, self.grid)
        self.reference = retrained(self.history, federation, cases, how.retrainings, self.yardstick.on_test)
        self.reference.relearning = self.relearn("reference", cases, self.reference.models[0], how.relearning)

    def relearn(
        self, arm: str, cases: Sequence[UnlearningCase], models: Mapping[int, Params], most: int
    ) -> dict[int, int]:
        """Rounds in which models learn again what they forgot, by request index.

        Nothing where the optimum is solved for, or where training goes on from the models of shards.

        Args:
            arm: its clients take back, for once, what they buried in it.
            cases: the requests.
            models: by request index.
            most: rounds after which a model is given up; 0: nothing is tried.
        """
        plan = self.ground.setup.plan
        if most == 0 or plan.algorithm not in ("fedavg", "fedsgd") or plan.shards > 1:
            return {}
        history = self.history.under(self.ground.federation(self.grid, f"relearning {arm}"))
        starts = [models[case.request.index] for case in cases]
        losses = [self.yardstick.loss_of(case.request.forget) for case in cases]
        needed = relearn(history, cases, starts, losses, most)
        return {case.request.index: rounds for case, rounds in zip(cases, needed, strict=True)}

    def _cases(self) -> Sequence[UnlearningCase]:
        """Each request as a branch of its own, with what is gone by then."""
        sequential = self.ground.setting.deletion.pattern == "sequential"
        gone: Forget = {}
        cases, done = [], 0
        for arrival in timeline(self.ground.requests):
            request = arrival.request
            if arrival.back:
                gone = without(gone, request.forget)
                continue
            forgotten, arrives = request.forget, request.round
            if sequential:
                gone = union(gone, request.forget)
                forgotten, arrives = gone, max(arrives, done)
            done = arrives + self.ground.setting.deletion.rounds_between
            before = self.history.released(request.round)
            cases.append(UnlearningCase(request.index + 1, request, forgotten, done, before))
        return cases


def _clients(ground: Groundwork, grid: Grid) -> GridFederation:
    """The clients as they are before anything is deleted."""
    return ground.federation(grid, f"trunk-{ground.setting.variant}")


def _check_classes(prefix: Prefix, population: AbstractPopulation) -> None:
    if population.schema.task == "classification":
        return
    but = f"needs classes, but {population.schema.name} has a real-valued target"
    for arm in prefix.arms:
        if "classes" in arm.unlearning.needs:
            raise DataError(f"unlearning method {arm.unlearning.method!r} {but}: take another method")
        for attack in arm.attacks:
            if "classes" in attack.needs:
                raise DataError(f"attack {attack.kind!r} {but}: take an attack that answers with records")


def model_spec(setting: Setting, population: AbstractPopulation, seed: int) -> ModelSpec:
    """Resolve a model for a population.

    Raises:
        DataError: the model does not fit the data.
    """
    model, schema = setting.model, population.schema
    if schema.task == "regression" and model.kind in ("softmax", "svm"):
        raise DataError(
            f"model.kind = {model.kind!r} needs classes, but {schema.name} has a real-valued target: take ridge or mlp"
        )
    if model.kind in ("cnn", "resnet18") and not schema.is_image:
        raise DataError(
            f"model.kind = {model.kind!r} needs images, but {schema.name} is a table: take a linear model or mlp"
        )
    features = None
    if model.features is not None:
        given = model.features.bandwidth
        width = median_bandwidth(population.public_x) if given == "median" else float(given)
        # The features' seed is public; the scenario's, from which all draws of private data derive, must not be it.
        public_seed = int(generator(seed, "features").integers(2**31))
        features = FeatureSpec(dimension=model.features.dimension, bandwidth=width, seed=public_seed)
    return ModelSpec(
        kind=model.kind,
        task=schema.task,
        shape=schema.shape,
        outputs=schema.outputs,
        regularisation=penalty(setting, population.records),
        hidden=model.hidden,
        channels=model.channels,
        features=features,
        dtype="float64" if setting.training.algorithm in ("lbfgs", "closed-form") else "float32",
    )


def setup_of(setting: Setting, population: AbstractPopulation, seed: int) -> Setup:
    """The training of a setting on a population.

    Raises:
        DataError: they do not fit.
    """
    return Setup(
        model_spec(setting, population, seed), _training_plan(setting, population), population.sizes, seed=seed
    )


def penalty(setting: Setting, records: int) -> float:
    """lambda for so many training records: as given, or l2 times their number."""
    if setting.model.regularisation is not None:
        return setting.model.regularisation
    return (setting.model.l2 or 0.0) * records


def _training_plan(setting: Setting, population: AbstractPopulation) -> TrainingPlan:
    training = setting.training
    records = population.records
    if training.clients_per_round and training.clients_per_round > population.clients:
        raise DataError(
            f"training.clients_per_round = {training.clients_per_round}: there are {population.clients} clients"
        )
    if training.shards > population.clients:
        raise DataError(f"training.shards = {training.shards}: there are {population.clients} clients")
    return TrainingPlan(
        algorithm=training.algorithm,
        rounds=training.rounds,
        clients_per_round=0 if training.sampling else training.clients_per_round or 0,
        sampling_rate=training.sampling.rate if training.sampling else 0.0,
        shards=training.shards,
        recipe=Recipe(
            local_epochs=training.local_epochs,
            local_steps=training.local_steps,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            l2=penalty(setting, records) / records,
        ),
        gradient_norm=training.stop.gradient_norm,
        max_evaluations=training.stop.max_evaluations,
        perturbation=training.perturbation,
    )
