"""A small run, and what every figure of a run and every measure of unlearned models must be.

Each function with ``run`` looks at a finished one; ``check_figure``, ``check_unlearning_measure`` and
``check_unlearning_distance`` make one of digits, which takes some seconds, and look at that.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.image import imread

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.figures import cards as figures
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.unlearning_metrics.measures import cards as measures
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.plugins import imported


def small_run(directory: Path) -> Path:
    """Two deletions from six clients of digits, retrained and left as they are, attacked in two ways.

    A process makes it once, and copies it: other plug-ins than measures have no part in it.

    Args:
        directory: to work in; empty.

    Returns:
        the run's directory.
    """
    place = directory / "run"
    for path, content in _made(tuple((name, card.target) for name, card in measures().items())).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    return place


@cache
def _made(measured: tuple[tuple[str, Any], ...]) -> dict[Path, bytes]:
    """The files of a small run, in which these measures take part."""
    scenario = scenario_from_dict(
        {
            "name": "small",
            "data": {"source": "digits", "clients": 6, "public_fraction": 0.4},
            "training": {"rounds": 2, "clients_per_round": 3, "batch_size": 32},
            "deletion": {"requests": 2},
            "unlearning": [{"method": "retrain"}, {"method": "none"}],
            "attack": [{"kind": "hrec"}, {"kind": "class-score"}],
            "runtime": {"backend": "serial"},
        }
    )
    with TemporaryDirectory() as name:
        place = Path(name)
        simulate(scenario, prepare(scenario), place, SerialGrid(1))
        return {path.relative_to(place): content for path, content in _files(place).items()}


def check_figure(name: str, directory: Path) -> None:
    """Check everything that is asked of a figure, on a run that is made for it.

    Args:
        name: under which it is registered, built in or announced by an entry point.
        directory: to work in; empty.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    assert name in figures(), f"there is no figure {name!r} here; there are {', '.join(figures())}"
    check_drawn(name, small_run(directory))


def check_drawn(name: str, run: Path) -> None:
    """It draws pictures into ``figures/`` or does not apply, and changes nothing else.

    Args:
        name: of the figure.
        run: directory of a finished run.
    """
    card, files = figures()[name], RunFiles.open(run)
    try:
        function: Any = imported(card.target, f"the figure {name!r}")
    except RunFailure as error:
        raise AssertionError(str(error)) from error
    before = _files(run)
    calls = [(files,)] if card.each == "run" else [(files, variant) for variant in files.variants()]
    for arguments in calls:
        drawn = function(*arguments)
        for path in [] if drawn is None else [drawn] if isinstance(drawn, Path) else list(drawn):
            there = isinstance(path, Path) and path.is_file() and path.parent == files.directory.figures
            assert there, f"{name}: it returns {path!r}, which is no file in {files.directory.figures}"
            pixels = np.asarray(imread(path))
            assert (pixels != pixels.flat[0]).any(), f"{name}: {path.name} is one colour throughout"
    after = _files(run)
    touched = [path for path in {*before, *after} if before.get(path) != after.get(path)]
    elsewhere = [path for path in touched if path.parent != files.directory.figures]
    assert not elsewhere, f"{name}: it writes to {elsewhere[0].relative_to(run)}; figures are written to figures/ alone"


def check_unlearning_measure(name: str, directory: Path) -> None:
    """Check everything that is asked of a measure of unlearned models, on a run that is made for it.

    Args:
        name: under which it is registered, built in or announced by an entry point.
        directory: to work in; empty.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    _check_known(name)
    check_measured(name, _measured_run(name, directory))


def check_unlearning_distance(name: str, directory: Path) -> None:
    """Check everything that is asked of a distance of two models, on a run that is made for it.

    Args:
        name: under which it is registered, built in or announced by an entry point.
        directory: to work in; empty.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    check_unlearning_measure(name, directory)


def check_measured(column: str, run: Path) -> None:
    """Every trained and every unlearned model of a run is measured by a number.

    Args:
        column: of ``forgetting/ARM.parquet``, as the measure or the distance is called.
        run: directory of a finished run.
    """
    files = RunFiles.open(run)
    for arm in files.arms:
        rows = files.files(arm).forgetting()
        assert column in rows, f"{column}: it applies to no model of a classification; its columns are {list(rows)}"
        values = rows[rows["model"] != "retrained"][column].to_numpy(np.float64)
        assert np.isfinite(values).all(), f"{column}: {int((~np.isfinite(values)).sum())} models have no finite value"


def _check_known(name: str) -> None:
    assert name in measures(), f"there is no measure of unlearned models {name!r}; there are {', '.join(measures())}"


def _measured_run(name: str, directory: Path) -> Path:
    try:
        return small_run(directory)
    except (RunFailure, ValueError) as error:
        raise AssertionError(f"{name}: {error}") from error


def _files(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
