"""What a round costs as population, cohort and model grow, and what the server then stores: curves and exponents."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from palimpsest.server.algorithms import fedavg
from palimpsest.server.setup import Lineage, Setup, TrainingPlan
from palimpsest.server.updates import UpdateStore
from palimpsest.simulator.bench.palimpsest_hosts import PalimpsestHosts
from palimpsest.simulator.bench.usage import peak_memory
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.results.provenance import machine, versions
from palimpsest.simulator.world.data.build import DataConfig, load_population, population_directory
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.protocols.transcript import TranscriptWriter
from palimpsest.simulator.world.records import Params, Release
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelOptions, ModelSpec, Recipe

POPULATIONS = (10**3, 10**4, 10**5, 10**6)
COHORTS = (10**2, 10**3, 10**4, 10**5)
PARAMETERS = (10**4, 10**5, 10**6, 10**7)
COHORT_OF_POPULATIONS, COHORT_OF_MODELS = 1000, 32
RECIPE = Recipe(batch_size=10, learning_rate=0.05)


@dataclass(frozen=True)
class ScalePoint:
    """One piece of work.

    Attributes:
        curve: population, cohort or parameters: what ``size`` is and what grows.
        seconds: of the fastest round: whatever else the machine does only lengthens one. Populations take turns.
        mib: peak of resident memory of server and hosts together.
        release_bytes: what one release takes in the transcript.
        update_bytes: what one client's kept update takes (for methods that need ``client updates``).
    """

    curve: str
    size: int
    population: int
    cohort: int
    parameters: int
    seconds: float
    mib: float
    release_bytes: int
    update_bytes: int


def measure(rounds: int, most: int, console: Console) -> list[ScalePoint]:
    """Measure all curves up to ``most`` of whatever grows (populations are cheap: always up to 10^6)."""
    work = [("population", n, n, COHORT_OF_POPULATIONS, 0) for n in POPULATIONS]
    work += [("cohort", n, POPULATIONS[-1], n, 0) for n in COHORTS if n <= most]
    work += [("parameters", n, POPULATIONS[0], COHORT_OF_MODELS, n) for n in PARAMETERS if n <= 100 * most]
    points = []
    with tempfile.TemporaryDirectory() as place:
        alike = _in_turn(2 * rounds, Path(place))
        for curve, size, population, cohort, parameters in work:
            point = _point(curve, size, population, cohort, _spec(parameters), rounds, Path(place))
            if curve == "population":
                point = replace(point, seconds=alike[size])
            points.append(point)
            console.print(f"{curve} {size:,}: {point.seconds:.2f} s a round, {point.mib:,.0f} MiB")
    return points


def _spec(parameters: int) -> ModelSpec:
    """Softmax, or the mlp that has about so many parameters."""
    kind, options = ("mlp", {"hidden": max(1, round((parameters - 10) / 795))}) if parameters else ("softmax", {})
    return ModelSpec(
        kind=kind,
        task="classification",
        shape=(1, 28, 28),
        outputs=10,
        regularisation=0.0,
        options=ModelOptions(options),
    )


def _in_turn(rounds: int, directory: Path) -> dict[int, float]:
    """Seconds of the fastest round by population: all on the same hosts, which serve one after the other.

    What else the machine does, and what hosts have in memory, meets all of them alike.
    """
    palimpsest = PalimpsestHosts(os.cpu_count() or 1)
    try:
        steps = {n: _rounds(palimpsest, n, COHORT_OF_POPULATIONS, _spec(0), rounds, directory) for n in POPULATIONS}
        times: dict[int, list[float]] = {n: [] for n in POPULATIONS}
        for number in range(rounds + 1):
            for n in POPULATIONS if number % 2 else POPULATIONS[::-1]:
                times[n].append(next(steps[n])[0])
    finally:
        palimpsest.close()
    return {n: min(each[1:]) for n, each in times.items()}


def _rounds(
    palimpsest: PalimpsestHosts, population: int, cohort: int, spec: ModelSpec, rounds: int, directory: Path
) -> Iterator[tuple[float, Params]]:
    """Seconds of a round and the model after it; the first is no measure, as hosts have to load what they need."""
    data = DataConfig(source="synthetic:mnist-like", clients=population)
    drawn = load_population(data, 0, directory)
    plan = TrainingPlan(algorithm="fedavg", rounds=rounds + 1, clients_per_round=cohort, recipe=RECIPE)
    setup = Setup(spec, plan, drawn.sizes)
    about = {"data": data.model_dump(mode="json"), "directory": str(population_directory(data, 0, directory))}
    federation = GridFederation(palimpsest.grid, about, setup.sizes, 0, "scale")
    start = model_of(spec).init(generator(0, "init"))
    steps = fedavg.rounds(setup, [Lineage(branch=0, forget={})], [start], federation)
    for _ in range(rounds + 1):
        began = time.perf_counter()
        step = next(steps)
        yield time.perf_counter() - began, step.models[0]


def _point(
    curve: str, size: int, population: int, cohort: int, spec: ModelSpec, rounds: int, directory: Path
) -> ScalePoint:
    palimpsest = PalimpsestHosts(os.cpu_count() or 1)
    try:
        with peak_memory(palimpsest.processes) as peak:
            _, *measured = _rounds(palimpsest, population, cohort, spec, rounds, directory)
    finally:
        palimpsest.close()
    model = measured[-1][1]
    with tempfile.TemporaryDirectory() as place:
        TranscriptWriter(Path(place) / "heard").append(Release(0, 1, "training", model))
        release = sum(file.stat().st_size for file in (Path(place) / "heard" / "releases").iterdir())
        store = UpdateStore(Path(place) / "kept")
        store.keep({client: flat(model).astype(np.float32) for client in range(2)})
        update = store.bytes // 2
    seconds = min(seconds for seconds, _ in measured)
    return ScalePoint(curve, size, population, cohort, model_of(spec).size, seconds, peak["mib"], release, update)


def exponents(points: Sequence[ScalePoint]) -> Iterator[tuple[str, float, float]]:
    """For each curve the slopes of log seconds and of log MiB over log size, by least squares."""
    for curve in dict.fromkeys(point.curve for point in points):
        on_curve = [point for point in points if point.curve == curve]
        if len(on_curve) < 2:
            continue
        sizes = np.log([point.size for point in on_curve])
        slopes = [np.polyfit(sizes, np.log([getattr(p, what) for p in on_curve]), 1)[0] for what in ("seconds", "mib")]
        yield curve, float(slopes[0]), float(slopes[1])


def table(points: Sequence[ScalePoint]) -> Table:
    """The points, and under each curve its exponents; MB are of one release, and within a header of one kept update."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for header in ("grows", "cohort", "of", "parameters", "s a round", "peak MiB", "MB a model"):
        shown.add_column(header, justify="left" if header == "grows" else "right", no_wrap=True)
    fitted = {curve: slopes for curve, *slopes in exponents(points)}
    for i, point in enumerate(points):
        shown.add_row(
            point.curve, f"{point.cohort:,}", f"{point.population:,}", f"{point.parameters:,}",
            f"{point.seconds:.2f}", f"{point.mib:,.0f}", f"{point.release_bytes / 1e6:,.2f}",
        )  # fmt: skip
        if point.curve in fitted and (i + 1 == len(points) or points[i + 1].curve != point.curve):
            seconds, mib = fitted[point.curve]
            shown.add_row("", "", "", "exponent", f"{seconds:.2f}", f"{mib:.2f}", "", style="bold")
            shown.add_section()
    return shown


def as_json(points: Sequence[ScalePoint]) -> str:
    """The same, with what it was measured on."""
    fitted = {curve: {"seconds": seconds, "mib": mib} for curve, seconds, mib in exponents(points)}
    about = {"versions": versions(), "machine": machine()}
    return json.dumps({**about, "exponents": fitted, "points": [asdict(point) for point in points]}, indent=1)
