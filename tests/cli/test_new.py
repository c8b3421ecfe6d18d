"""``palimpsest new``: what it writes is installed, listed, keeps its contract and takes part in a run."""

import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.cli.listing import listing
from palimpsest.simulator.cli.new import PLUG_INS
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.testing import check_answer, check_figure, check_unlearning_measure
from palimpsest.simulator.testing.answers import check_packing
from palimpsest.simulator.testing.runs import check_drawn, check_measured
from palimpsest.simulator.world.files import cache_directory
from tests.support.fabricated import digits, make_run
from tests.support.packages import installed
from tests.support.scenarios import small_scenario

PROJECT = Path(__file__).parents[2]
TYPES = """[mypy]
plugins = pydantic.mypy
ignore_missing_imports = True
[mypy-{}]
follow_imports = skip
"""
"""What mypy is told; within are modules whose types no plug-in sees."""
UNSEEN = (
    "databricks", "datasets", "flwr", "IPython", "mlflow", "opacus", "ray", "sqlalchemy", "torch._dynamo",
    "torch._export", "torch._functorch", "torch._higher_order_ops", "torch._inductor", "torch.distributed",
    "torch.export", "torch.fx", "torch.onnx", "torch.testing", "torch.utils.data",
)  # fmt: skip
"""Packages that the project uses within, and parts of PyTorch that networks do without: two files of three."""


def new(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["new", *arguments])


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind, side by side."""
    place = tmp_path_factory.mktemp("packages")
    for kind in PLUG_INS:
        made = new(kind, f"my-{kind}", "--out", str(place / f"my-{kind}"))
        assert made.exit_code == 0, made.output
    return place


@pytest.fixture(scope="module")
def site(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them are installed."""
    place = tmp_path_factory.mktemp("site")
    for package in sorted(packages.iterdir()):
        installed(place, package)
    return place


@pytest.fixture
def importable(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def test_a_package_is_four_files(packages: Path) -> None:
    for kind in PLUG_INS:
        place, module = packages / f"my-{kind}", f"my-{kind}".replace("-", "_")
        files = [path for path in place.iterdir() if path.is_file()]  # Python keeps what it has compiled in a folder
        assert {file.name for file in files} == {"pyproject.toml", "README.md", f"{module}.py", f"test_{module}.py"}
        assert len((place / "README.md").read_text().splitlines()) == 5
        assert "$" not in "".join(file.read_text() for file in files)


def test_what_is_written_is_in_order(packages: Path) -> None:
    for command in (["check", "--select", "E,F,W,I,B,UP,N,D101,D102"], ["format", "--check"]):
        ruff = ["ruff", *command, "--isolated", str(packages)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_written_has_sound_types(packages: Path, tmp_path: Path) -> None:
    place, kept = types_of_the_project(tmp_path)
    options = ["--strict", "--namespace-packages", "--explicit-package-bases", "--cache-dir", str(kept)]
    options += ["--follow-imports", "silent"]  # what they import is checked by itself: here only its types are read
    files = sorted(str(file) for file in packages.glob("*/*.py"))
    command = [sys.executable, "-m", "mypy", *options, "--config-file", str(place / "mypy.ini"), *files]
    environment = os.environ | {"MYPYPATH": os.pathsep.join([str(place), *map(str, packages.iterdir())])}
    done = subprocess.run(command, cwd=packages, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def types_of_the_project(place: Path) -> tuple[Path, Path]:
    """Where mypy finds the project, and where it keeps what it has read: the same place in every run of the tests."""
    (place / "palimpsest").mkdir()
    for folder in ("attacks", "clients", "defenses", "server", "simulator"):
        (place / "palimpsest" / folder).symlink_to(PROJECT / folder)
    (place / "mypy.ini").write_text(TYPES.format(",".join(f"{module}.*" for module in UNSEEN)))
    return place, cache_directory() / "tests" / f"types-{hashlib.sha256(str(PROJECT).encode()).hexdigest()[:12]}"


@pytest.mark.slow
def test_its_own_test_checks_its_contract(packages: Path, site: Path) -> None:
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(packages)]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, cwd=packages, env=environment, capture_output=True, text=True, check=False)
    assert f"{len(PLUG_INS)} passed" in done.stdout, done.stdout


@pytest.mark.usefixtures("importable")
def test_it_is_listed() -> None:
    for kind, plug_in in PLUG_INS.items():
        console = Console(width=200, record=True)
        console.print(listing(plug_in.table))
        name = f"my-{kind}".replace("-", "_") if plug_in.column else f"my-{kind}"
        [line] = [line for line in console.export_text().splitlines() if line.split()[:1] == [name]]
        assert "cannot" not in line


@pytest.mark.usefixtures("importable")
def test_methods_measures_figure_and_source_take_part_in_a_run(tmp_path: Path) -> None:
    scenario = small_scenario(
        data={"source": "my-source", "clients": 4, "public_fraction": 0.4},
        unlearning=[{"method": "my-unlearner"}, {"method": "retrain"}],
        defense=[{"kind": "none"}, {"kind": "my-defense", "step": 0.01}],
        attack=[{"kind": "my-attack", "strength": 0.5}],
    )
    results = simulate(scenario, prepare(scenario), tmp_path, SerialGrid(1))
    assert len(results["arms"]) == 4
    check_drawn("my-figure", tmp_path)
    assert (tmp_path / "figures/my-figure.png").is_file()
    for column in ("my_unlearning_measure", "my_unlearning_distance"):
        check_measured(column, tmp_path)
    for arm in results["arms"]:
        assert {"my_measure_median", "cosine_median"} <= set(arm["attacks"]["my-attack"])
        rows = pd.read_parquet(tmp_path / "scores" / f"{arm['arm']}.parquet")
        assert rows[rows["attack"] == "my-attack"]["my_measure"].notna().all()


@pytest.mark.usefixtures("importable")
def test_model_and_strategy_take_part_in_a_run(tmp_path: Path) -> None:
    scenario = small_scenario(
        model={"kind": "my-model", "width": 8},
        training={"rounds": 2, "clients_per_round": 3, "strategy": "my-strategy", "share": 0.25},
        unlearning=[{"method": "retrain", "coupling": "same-order"}],
        attack=[{"kind": "class-score"}],
    )
    [arm] = simulate(scenario, prepare(scenario), tmp_path, SerialGrid(1))["arms"]
    assert (arm["requests_made"], arm["requests_completed"]) == (2, 2)
    assert "class-score" in arm["attacks"]


@pytest.mark.usefixtures("importable")
def test_an_answer_keeps_its_contract_and_one_that_does_not_is_told_why() -> None:
    made = importlib.import_module("my_answer")
    check_answer("my-answer", [made.MyAnswer(0, 0.3), made.MyAnswer(1, 0.5)])
    with pytest.raises(AssertionError, match=r"guesses are of the cases \[1\]; give one of each of \[0, 1\]"):
        check_answer("my-answer", [made.MyAnswer(1, 0.5)])
    with pytest.raises(AssertionError, match="there are reconstruction, labels, scores, profile, my-answer"):
        check_answer("your-answer", [])


class Forgetful:
    """Packs less than it holds, and can be changed."""

    name = "forgetful"

    def __init__(self, case: int, mean: float) -> None:
        self.case, self.mean, self.no_signal = case, mean, False

    @classmethod
    def pack(cls, guesses: Sequence["Forgetful"]) -> dict[str, Any]:
        return {"case": np.array([guess.case for guess in guesses]), "mean": np.array([g.mean for g in guesses])}

    @classmethod
    def unpack(cls, fields: Mapping[str, Any]) -> list["Forgetful"]:
        return [cls(int(case), 0.0) for case in fields["case"]]


class Frozen(Forgetful):
    """The same, and cannot be changed."""

    def __init__(self, case: int, mean: float) -> None:
        self.__dict__.update(case=case, mean=mean, no_signal=False)

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError(key)


def test_what_does_not_pack_itself_is_told_so() -> None:
    with pytest.raises(AssertionError, match="case of a guess can be set; make it a frozen dataclass"):
        check_packing("forgetful", [Forgetful(0, 1.0), Forgetful(1, 2.0)])
    with pytest.raises(AssertionError, match="the field 'mean' is not what it was once packed and unpacked"):
        check_packing("forgetful", [Frozen(0, 1.0), Frozen(1, 2.0)])


def test_figures_and_measures_that_break_the_contract_are_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", {"digits": digits()}, deletions=2, seeds=(0,))
    (tmp_path / "broken_figures.py").write_text(
        "def nowhere(run): return run.directory.path / 'figures' / 'gone.png'\n"
        "def tidying(run): (run.directory.path / 'results.json').write_text('{}')\n"
    )
    about = tmp_path / "broken-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    points = "\n".join(f"{name} = broken_figures:{name}" for name in ("nowhere", "tidying"))
    (about / "entry_points.txt").write_text(f"[palimpsest.figures]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check_drawn("summary", run)
    for name, said in {"nowhere": "which is no file in", "tidying": "it writes to results.json"}.items():
        with pytest.raises(AssertionError, match=said):
            check_drawn(name, run)
    sys.modules.pop("broken_figures")
    with pytest.raises(AssertionError, match="there is no figure 'sumary' here; there are summary"):
        check_figure("sumary", tmp_path)
    with pytest.raises(AssertionError, match="there is no measure of unlearned models 'utillity'"):
        check_unlearning_measure("utillity", tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "there"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    refused = new("attack", "my-attack", "--out", str(place))
    assert refused.exit_code == 2
    assert "exists already, and nothing is overwritten" in refused.stderr
    assert [file.name for file in place.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("attacks", "mine", "no plug-in of the kind 'attacks'; give one of model, source, attack"),
        ("attack", "My Attack", "small letters and digits that begin with a letter"),
        ("attack", "../up", "'../up' cannot be the name of a plug-in"),
        ("attack", "a-", "cannot be the name of a plug-in"),
        ("attack", "hrec", "there is an attack called 'hrec' already"),
        ("source", "digits", "already"),
        ("measure", "cosine-centred", "already"),
        ("model", "json", "Python has a module or a word 'json' already"),
        ("model", "class", "Python has a module or a word 'class' already"),
        ("model", "torch", "Python has a module or a word 'torch' already"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_sentence(kind: str, name: str, said: str, tmp_path: Path) -> None:
    refused = new(kind, name, "--out", str(tmp_path / "new"))
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
