"""A tap on a Flower app that is not ours: the structure of Flower's PyTorch quickstart, on scikit-learn's digits."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict
from safetensors.numpy import load_file
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.federation import local_grid
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import Transcript
from tests.support.superlink import superlink

APP = Path(__file__).parents[1] / "support/quickstart"


def install(place: Path) -> Path:
    """The app as ``pip install`` leaves it: its package, and what it announces."""
    shutil.copytree(APP, place, ignore=shutil.ignore_patterns("__pycache__"))
    about = place / "quickstart-1.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: quickstart\nVersion: 1.0.0\n")
    (about / "entry_points.txt").write_text("[palimpsest.models]\nquickstart = quickstart.task:MODEL\n")
    return place


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = install(tmp_path / "app")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(local_grid, "CLIENT_APP", "quickstart.client_app:app")
    yield place
    for name in [name for name in sys.modules if name.partition(".")[0] == "quickstart"]:
        del sys.modules[name]


def start(place: Path, mode: str, rounds: int = 3) -> None:
    """One run of the app in this process: its ServerApp, its ClientApp and Flower's own loop and strategy."""
    from quickstart.server_app import main  # type: ignore[import-not-found]

    config: dict[str, Any] = {
        "rounds": rounds, "learning-rate": 0.1, "mode": mode,
        "transcript": str(place / "heard"), "checkpoint": str(place / "model.pt"),
    }  # fmt: skip
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    with torch.random.fork_rng():
        main(SerialGrid(4), context)


def cosine_of_answer(file: Path) -> float:
    from quickstart.task import FORGOTTEN, load_data

    record = load_data(0)[0][FORGOTTEN].numpy().ravel()
    found = load_file(file)["inversion/x"][0]
    return float(record @ found / np.linalg.norm(record) / np.linalg.norm(found))


def attacked(place: Path, heard: str = "heard") -> tuple[str, float]:
    """What ``palimpsest attack`` says, and how near its answer is."""
    written = place / "found.safetensors"
    arguments = ["attack", str(place / heard), "--attack", "inversion", "--out", str(written)]
    found = CliRunner().invoke(cli.app, arguments)
    assert found.exit_code == 0, found.output
    return " ".join(found.stdout.split()), cosine_of_answer(written)


def test_a_training_is_written_release_by_release(app: Path, tmp_path: Path) -> None:
    start(tmp_path, "train")
    transcript = Transcript.open(tmp_path / "heard")
    assert [(line.branch, line.round, line.parent) for line in transcript.heard] == [
        (0, 0, None), (0, 1, 0), (0, 2, 1), (0, 3, 2),
    ]  # fmt: skip
    facts = PublicKnowledge.open(tmp_path / "heard/knowledge.json").facts
    assert (facts.n, facts.clients, facts.model.kind, facts.cases) == (900, 4, "quickstart", ())


def test_the_record_comes_back_after_one_ascent_step(app: Path, tmp_path: Path) -> None:
    start(tmp_path, "train")
    start(tmp_path, "ascend")
    transcript = Transcript.open(tmp_path / "heard")
    last = transcript.heard[-1]
    assert (last.branch, last.parent, last.round, last.phase) == (1, 3, 4, "unlearning")
    said, cosine = attacked(tmp_path)
    assert cosine > 0.99
    assert "without a signal" not in said


def test_the_record_comes_back_after_a_seeded_retraining(app: Path, tmp_path: Path) -> None:
    start(tmp_path, "train")
    start(tmp_path, "retrain")
    transcript = Transcript.open(tmp_path / "heard")
    assert [(line.branch, line.round, line.parent) for line in transcript.heard[4:]] == [
        (1, 0, 3), (1, 1, 4), (1, 2, 5), (1, 3, 6),
    ]  # fmt: skip
    assert transcript.heard[4].sha256 == transcript.heard[0].sha256
    said, cosine = attacked(tmp_path)
    assert cosine > 0.99
    assert "without a signal" not in said


def test_after_an_unseeded_retraining_it_says_that_nothing_comes_back(app: Path, tmp_path: Path) -> None:
    start(tmp_path, "train")
    start(tmp_path, "retrain-anew")
    said, _ = attacked(tmp_path)
    assert "1 without a signal, where it falls back on the public sample" in said
    found, known = load_file(tmp_path / "found.safetensors"), PublicKnowledge.open(tmp_path / "heard/knowledge.json")
    assert np.allclose(found["inversion/x"][0], known.mean)


def test_what_a_tap_cannot_mark_is_one_sentence(app: Path, tmp_path: Path) -> None:
    from flwr.serverapp.strategy import FedAvg
    from quickstart.task import public

    from palimpsest.simulator.tap import Tap

    about: dict[str, Any] = {"public": public(), "training": {"learning_rate": 0.1, "batch_size": 512}}
    with pytest.raises(TranscriptError, match="holds no release yet"):
        Tap(FedAvg(), tmp_path / "heard", model="quickstart", **about).deletion(rule="ascent")
    start(tmp_path, "train")
    with pytest.raises(TranscriptError, match="has no release 12345"):
        Tap(FedAvg(), tmp_path / "heard", model="quickstart", **about).deletion(rule="ascent", before="12345")
    with pytest.raises(TranscriptError, match="holds releases of another model"):
        Tap(FedAvg(), tmp_path / "heard", model="mlp", **about)


@pytest.mark.ray
@pytest.mark.slow
def test_under_flwr_run(app: Path, tmp_path: Path) -> None:
    """The same app by ``flwr run``, on a SuperLink, and ``palimpsest attack``: a training, then deletions.

    One deletion follows the training of the same run, two that of another process, whose transcript is taken up.
    """
    start(tmp_path, "train", rounds=2)
    for heard in ("retrained", "unseeded"):
        shutil.copytree(tmp_path / "heard", tmp_path / heard)
    turns = [
        ("train", "ascended"), ("ascend", "ascended"), ("retrain", "retrained"), ("retrain-anew", "unseeded"),
    ]  # fmt: skip
    modes, transcripts = " ".join(mode for mode, _ in turns), " ".join(str(tmp_path / heard) for _, heard in turns)
    settings = f"mode='{modes}' rounds=2 transcript='{transcripts}' checkpoint='{tmp_path / 'model.pt'}'"
    paths = f"{app}:{os.environ.get('PYTHONPATH', '')}"
    (tmp_path / "link").mkdir()
    with superlink(tmp_path / "link", {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}) as environment:
        command = ["flwr", "run", str(app), "--federation-config", "num-supernodes=4", "--run-config", settings]
        done = subprocess.run([*command, "--stream"], env=environment, timeout=240, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        told = done.stdout + (tmp_path / "link/superlink.log").read_text()
        for _, heard in turns:
            assert (tmp_path / heard / "knowledge.json").is_file(), told
            assert Transcript.open(tmp_path / heard).heard[-1].phase == "unlearning", told
        by_command = attacked_by_the_command(tmp_path, "ascended", environment)
        # The others by the same command in this process, where PyTorch is loaded.
        for said, cosine, comes_back in (
            (*by_command, True),
            (*attacked(tmp_path, "retrained"), True),
            (*attacked(tmp_path, "unseeded"), False),
        ):
            assert (cosine > 0.99) == comes_back, cosine
            assert ("without a signal" in said) != comes_back, said
    assert PublicKnowledge.open(tmp_path / "retrained/knowledge.json").facts.unlearning["coupling"] == "same-order"


def attacked_by_the_command(place: Path, heard: str, environment: dict[str, str]) -> tuple[str, float]:
    """What ``palimpsest attack`` says in a process of its own, and how near its answer is."""
    written = place / f"{heard}.safetensors"
    command = [sys.executable, "-m", "palimpsest.simulator", "attack", str(place / heard), "--attack", "inversion"]
    done = subprocess.run(
        [*command, "--out", str(written)], env=environment, timeout=240, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split()), cosine_of_answer(written)
