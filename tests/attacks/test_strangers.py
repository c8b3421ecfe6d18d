"""A stranger's transcript that is not what it claims to be ends in one sentence, before it costs time or memory."""

import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.world.models.kinds import names
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.architecture import shapes_of
from palimpsest.simulator.world.specs import ModelSpec
from tests.support.corruptions import CORRUPTIONS, sound
from tests.support.measured_corruptions import BYTES, COUNT, SECONDS, ended, is_one_sentence

KINDS = list(CORRUPTIONS)
FEW = ("a release claims sizes that it has not", "a release is no file", "knowledge is nested without end",
       "features are huge", "a name steers the terminal", "a case is huge")  # fmt: skip


@pytest.fixture(scope="module")
def transcript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound") / "arm"
    sound(directory)
    return directory


def spoiled(transcript: Path, place: Path, kind: str, seed: int) -> Path:
    directory = place / "arm"
    shutil.copytree(transcript, directory)
    CORRUPTIONS[kind](directory, np.random.default_rng(seed))
    return directory


def test_the_sound_transcript_is_attacked(transcript: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.safetensors"
    done = CliRunner().invoke(cli.app, ["attack", str(transcript), "--attack", "hrec", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.is_file()


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_corruption_is_refused_in_one_sentence(transcript: Path, tmp_path: Path, seed: int) -> None:
    directory = spoiled(transcript, tmp_path, KINDS[seed % len(KINDS)], seed)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    out = tmp_path / "answers.safetensors"
    done = CliRunner().invoke(cli.app, ["attack", str(directory), "--attack", "hrec", "--out", str(out)])
    assert done.exit_code == 2, (KINDS[seed % len(KINDS)], done.output, done.exception)
    assert is_one_sentence(done.stderr), done.stderr
    assert done.stdout == ""
    assert not out.exists()
    assert time.process_time() - began < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**28


@pytest.mark.slow
@pytest.mark.parametrize("kind", FEW)
def test_a_command_ends_in_time_and_memory(kind: str) -> None:
    """All hundred: ``python -m tests.support.measured_corruptions``."""
    done = ended(kind, 1)
    assert done.code == 2
    assert is_one_sentence(done.text), done.text
    assert done.seconds < SECONDS
    assert done.bytes < BYTES


@pytest.mark.parametrize("kind", names())
def test_the_shapes_of_a_model_are_known_before_it_is_built(kind: str) -> None:
    spec = ModelSpec(kind=kind, task="classification", shape=(1, 28, 28), outputs=10, regularisation=0.0)
    assert shapes_of(spec) == dict(Model(spec).shapes)
