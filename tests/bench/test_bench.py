"""The benchmark compares like with like: every contestant ends with the same weights. No timed assertions."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from palimpsest.simulator.bench import loops, quick
from palimpsest.simulator.bench.hand_batched import hand_batched
from palimpsest.simulator.bench.table import AGREE, BenchLine, as_json, bench
from palimpsest.simulator.bench.work import Work, make_population
from palimpsest.simulator.cli.main import app
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.specs import ModelKind


@pytest.mark.slow
def test_palimpsest_and_the_loops_end_with_the_same_weights() -> None:
    contestants = ("palimpsest", "hand-batched", "vmap loop", "torch loop")
    lines = bench([(kind, 6, 4) for kind in ("softmax", "mlp", "cnn")], 2, contestants, Console(quiet=True))
    assert [(line.kind, line.contestant) for line in lines] == [
        (kind, name) for kind in ("softmax", "mlp", "cnn") for name in contestants
    ]
    assert all(line.apart <= AGREE for line in lines), lines
    assert all(line.updates > 0 and line.memory > 0 for line in lines)
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


def _line(contestant: str, updates: float) -> BenchLine:
    return BenchLine("softmax", 300, 300, contestant, updates, updates, updates, 3, 1.0, 100.0, 0.0)


def test_a_ratio_that_has_fallen_by_half_is_a_sentence() -> None:
    recorded = quick.RECORDED["softmax", "vmap loop"]
    low = f"softmax: {0.49 * recorded:.2f} of the speed of vmap loop, and {recorded:.2f} is recorded"
    for share, expected in ((0.51, []), (0.49, [low])):
        lines = [_line("palimpsest", share * recorded * 1000.0), _line("vmap loop", 1000.0)]
        assert quick.fallen(quick.ratios(lines)) == expected
        assert quick.row(quick.ratios(lines)).endswith(f"| {share * recorded:.2f} |")


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--model", "resnet"], "softmax, mlp, cnn"),
        (["--size", "10"], "COHORT/POPULATION"),
        (["--size", "10/5"], "at most the population"),
        (["--without", "palimpsest"], "plain flower"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], needed: str) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2
    assert needed in done.stderr
