"""The benchmark compares like with like: every contestant ends with the same weights. No timed assertions."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from palimpsest.server.algorithms import fedavg
from palimpsest.server.setup import Lineage
from palimpsest.simulator.bench import loops, quick
from palimpsest.simulator.bench.hand_batched import hand_batched
from palimpsest.simulator.bench.table import AGREE, BenchLine, _agree, _rounded, as_json, bench, table
from palimpsest.simulator.bench.usage import cpu_seconds
from palimpsest.simulator.bench.work import Work, make_population
from palimpsest.simulator.bench.workloads import sizes_of, spec_of
from palimpsest.simulator.cli.main import app
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.kinds import CARDS
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.specs import ModelKind
from tests.support.packaged_models import install


@pytest.mark.slow
def test_palimpsest_and_the_loops_end_with_the_same_weights() -> None:
    contestants = ("palimpsest", "hand-batched", "vmap loop", "torch loop")
    lines = bench([(kind, 6, 4) for kind in ("softmax", "mlp", "cnn")], 2, contestants, Console(quiet=True))
    assert [(line.kind, line.contestant) for line in lines] == [
        (kind, name) for kind in ("softmax", "mlp", "cnn") for name in contestants
    ]
    assert all(line.same and line.agree == AGREE for line in lines), lines
    assert all(line.updates > 0 and line.memory > 0 for line in lines)
    assert all(line.cpu >= 0 for line in lines)  # counted in hundredths of a second: so little work may take none
    assert len(json.loads(as_json(lines))["lines"]) == 12


@pytest.mark.parametrize("kind", ["softmax", "mlp", "cnn"])
def test_other_clients_would_be_noticed(kind: ModelKind, tmp_path: Path) -> None:
    directory = make_population(6, tmp_path)
    work = Work(kind=kind, population=6, cohort=4, rounds=1, directory=directory)
    model, clients = work.start(), sorted(work.clients(0))
    others = [client for client in range(6) if client not in clients] + clients[:2]
    right, wrong = (loops.vmapped(work, model, chosen, 0) for chosen in (clients, others))
    assert np.abs(flat(right) - flat(wrong)).max() > 100 * AGREE
    for same in (loops.plainly, hand_batched):
        assert np.abs(flat(right) - flat(same(work, model, clients, 0))).max() <= AGREE


@pytest.mark.parametrize("kind", [name for name in CARDS if name not in ("softmax", "mlp", "cnn", "resnet18")])
def test_loops_do_the_work_of_any_model(kind: ModelKind, tmp_path: Path) -> None:
    directory = make_population(3, tmp_path, spec_of(kind).shape)
    work = Work(kind=kind, population=3, cohort=2, rounds=1, directory=directory)
    federation = GridFederation(SerialGrid(), {"data": {}, "directory": str(directory)}, work.setup.sizes, 0, "bench")
    model, clients = work.start(), sorted(work.clients(0))
    ours = next(fedavg.rounds(work.setup, [Lineage(branch=0, forget={})], [model], federation)).models[0]
    agree = _agree(work, flat(ours))
    for train in (loops.vmapped, loops.plainly):
        right = train(work, model, clients, 0)
        moved = {name: value + right[name] / len(clients) for name, value in model.items()}
        assert np.abs(flat(moved) - flat(ours)).max() <= agree
        wrong = train(work, model, [clients[0], 3 - sum(clients)], 0)
        assert np.abs(flat(right) - flat(wrong)).max() / len(clients) > 10 * agree


def test_every_model_has_records_and_sizes_that_suit_it() -> None:
    assert spec_of("vit-tiny").shape == (3, 32, 32) and sizes_of("vit-tiny") == ((100, 100),)
    assert spec_of("svm").shape == (1, 28, 28) and len(sizes_of("svm")) == 3
    assert sizes_of("resnet18") == ((4, 4),)
    with pytest.raises(ModelError, match="there is no model 'resnet' here"):
        spec_of("resnet")


def test_who_has_no_loop_for_a_model_gets_dashes() -> None:
    lines = [replace(_line(name, 10.0), kind="convnet") for name in ("palimpsest", "torch loop")]
    console = Console(width=120)
    with console.capture() as shown:
        console.print(table(lines, ("palimpsest", "hand-batched", "torch loop")))
    rows = [line.split() for line in shown.get().splitlines()]
    assert ["hand-batched", *["-"] * 7] in rows
    assert "convnet 1x28x28" in shown.get()
    assert next(row for row in rows if row[:1] == ["convnet"])[1:4] == ["300/300", "palimpsest", "10"]


def test_a_ratio_of_processor_times_below_the_clocks_ticks_is_a_dash() -> None:
    ours, theirs = _line("palimpsest", 10.0), _line("torch loop", 5.0)
    for lines in ([replace(ours, cpu=0.0), theirs], [ours, replace(theirs, cpu=0.0)], [ours, theirs]):
        console = Console(width=120)
        with console.capture() as shown:
            console.print(table(lines, ("palimpsest", "torch loop")))
        row = next(row.split() for row in shown.get().splitlines() if "torch loop" in row)
        assert row[3] == "2" and row[5] == ("1" if all(line.cpu for line in lines) else "-")


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (12345.6, 4, "12,346"),
        (9999.6, 4, "10,000"),
        (1653.2, 4, "1,653"),
        (999.7, 3, "1,000"),
        (999.4, 3, "999"),
        (99.97, 3, "100"),
        (0.01234, 3, "0.0123"),
        (9.97, 2, "10"),
        (0.0, 3, "0"),
    ],
)
def test_numbers_have_no_exponents(value: float, digits: int, shown: str) -> None:
    assert _rounded(value, digits) == shown


def test_processes_that_have_ended_count_once() -> None:
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print('done', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"done\n"
        used = cpu_seconds([process.pid]) - cpu_seconds([])
        process.communicate(b"\n")
    assert 0.38 < used < 0.78


@pytest.mark.parametrize(("kind", "needed"), [("broken", "no such driver"), ("short", "the model 'short' cannot read")])
def test_a_model_that_cannot_be_measured_is_refused_before_hosts_start(
    kind: str, needed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    done = CliRunner().invoke(app, ["bench", "--model", "softmax", "--model", kind, "--size", "2/2", "--rounds", "1"])
    assert done.exit_code == 2
    assert needed in " ".join(done.stderr.split())


def _line(contestant: str, updates: float) -> BenchLine:
    return BenchLine(
        "softmax", 300, 300, contestant, updates, updates, updates, 1.0, (1, 28, 28), 3, 1.0, 100.0, 0.0, 2e-6
    )


def test_a_ratio_that_has_fallen_by_half_is_a_sentence() -> None:
    recorded = quick.RECORDED["softmax", "vmap loop"]
    low = f"softmax: {0.49 * recorded:.2f} of the speed of vmap loop, and {recorded:.2f} is recorded"
    for share, expected in ((0.51, []), (0.49, [low])):
        lines = [_line("palimpsest", share * recorded * 1000.0), _line("vmap loop", 1000.0)]
        assert list(quick.fallen(quick.ratios(lines)).values()) == expected
        assert quick.row(quick.ratios(lines)).endswith(f"| {share * recorded:.2f} |")


@pytest.mark.parametrize(("second", "code"), [(0.51, 0), (0.48, 1)])
def test_a_ratio_that_has_fallen_is_measured_once_more(
    second: float, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, shares = quick.RECORDED["softmax", "vmap loop"], [0.49, second]
    asked: list[list[str]] = []

    def measured(pieces: Sequence[tuple[str, int, int]], *_: object) -> list[BenchLine]:
        asked.append([kind for kind, *_ in pieces])
        return [_line("palimpsest", shares[len(asked) - 1] * recorded * 1000.0), _line("vmap loop", 1000.0)]

    monkeypatch.setattr("palimpsest.simulator.bench.table.bench", measured)
    done = CliRunner().invoke(app, ["bench", "--quick"])
    assert (done.exit_code, asked) == (code, [["softmax", "mlp", "cnn"], ["softmax"]])
    assert f"| {max(shares) * recorded:.2f} |" in done.stderr
    assert ("error: softmax" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--model", "resnet"], "--model resnet: must be one of ridge, softmax"),
        (["--model", "given:some-network"], "must be one of"),
        (["--size", "10"], "COHORT/POPULATION"),
        (["--size", "10/5"], "at most the population"),
        (["--without", "palimpsest"], "plain flower"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], needed: str) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2
    assert needed in done.stderr
