"""The picture of a run: whose time it was, and when."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from palimpsest.simulator.bench.timeline import ProcessLine, Timeline, _binned, draw, measure, role_of
from palimpsest.simulator.cli.main import app
from tests.support.stores import new_store

SMALL = [
    "deletion.requests=1", "data.source=digits", "data.clients=4", "training.rounds=1",
    "training.clients_per_round=2", "runtime.backend=serial", "evaluation.retrainings=0",
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/usr/bin/python -P -m palimpsest.attacks", "attacks"),
        ("/usr/bin/python -m palimpsest.simulator.tracking out sqlite:///mlflow.db", "MLflow"),
        ("ray::RayHost.handle", "host"),
        ("/x/site-packages/ray/core/src/ray/raylet/raylet --raylet_socket_name=y", "Ray"),
        ("sleep 5", ""),
    ],
)
def test_processes_are_told_by_their_command_lines(command: str, role: str) -> None:
    assert role_of(command) == role


def test_time_is_drawn_where_it_was_used(tmp_path: Path) -> None:
    line = ProcessLine("host", 1.0, [(1.0, 0.0), (2.0, 1.0), (3.0, 0.0)])
    assert np.array_equal(_binned(line, np.arange(5.0)), [0.0, 1.0, 0.0, 0.0])
    draw(
        Timeline(4.0, [line, ProcessLine("driver", 2.0, [(0.5, 0.5), (4.0, 0.2)])], [(2.0, "arm done")]),
        tmp_path / "t.png",
    )
    assert imread(tmp_path / "t.png").std() > 0.05


@pytest.mark.slow
@pytest.mark.mlflow
def test_a_run_is_watched_from_its_start_to_its_end(tmp_path: Path) -> None:
    options = [part for change in (*SMALL, f"tracking.uri={new_store(tmp_path)}") for part in ("--set", change)]
    watched = measure(["mnist-deletions", *options], tmp_path)
    roles = {line.role for line in watched.processes}
    assert {"driver", "MLflow", "attacks"} <= roles
    assert [what for _, what in watched.marks].count("arm done") == 5
    assert all(0.0 < moment < watched.seconds for moment, _ in watched.marks)
    assert sum(line.spent for line in watched.processes) > 1.0


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    for file in ("timeline.txt", str(tmp_path / "no" / "timeline.png")):
        done = CliRunner().invoke(app, ["bench", "--timeline", file])
        assert done.exit_code == 2
        assert "must be a PNG file in a folder that exists" in " ".join(done.stderr.split())
