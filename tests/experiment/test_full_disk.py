"""Disks that are full, and quotas: one sentence that says where, and the run goes on when there is room.

A limit of this process on the size of files stands for a quota: the system refuses every byte beyond it.
"""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from palimpsest.simulator.cli.console import recoverable
from palimpsest.simulator.experiment import attackers
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.results.schema import RunResults
from palimpsest.simulator.scenario.entries import expand, resolve
from palimpsest.simulator.world.errors import RunFailure, disk_fault
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.protocols.events import (
    ArmDone,
    RequestDone,
    RoundDone,
    Silent,
    StageBegan,
    TrainingDone,
)
from tests.support.corruptions import sound
from tests.support.scenarios import small_scenario


@contextmanager
def limited(bytes: int) -> Iterator[None]:
    """Files may grow to so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Fills(Silent):
    """Lowers the limit at an event, which the test raises again."""

    def __init__(self, event: type[object], bytes: int) -> None:
        self._event, self._bytes = event, bytes

    def _told(self, event: object) -> None:
        if isinstance(event, self._event):
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._bytes, hard))

    stage_began = round_done = request_done = training_done = arm_done = _told


def _simulate(out: Path, observer: Silent | None = None) -> RunResults:
    out.mkdir(exist_ok=True)
    return simulate(small_scenario(), prepare(small_scenario()), out, SerialGrid(), observer)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of a run that had room."""
    attackers.start()  # before any limit, which it would keep
    return _digests(_simulate(tmp_path_factory.mktemp("unbroken") / "run"))


def _digests(results: RunResults) -> dict[str, str]:
    return {arm.arm: arm.transcript_digest for arm in results.arms}


@pytest.mark.parametrize(
    ("event", "bytes"), [(StageBegan, 0), (RoundDone, 0), (TrainingDone, 1500), (RequestDone, 0), (ArmDone, 1500)]
)
def test_a_run_without_room_says_where_and_goes_on_when_there_is(
    event: type[object], bytes: int, unbroken: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with limited(resource.RLIM_INFINITY), pytest.raises(OSError) as raised:
        _simulate(out, Fills(event, bytes))
    said = disk_fault(raised.value, out)
    assert str(tmp_path) in said or "ulimit" in said
    assert raised.value.errno == errno.EFBIG
    assert _digests(_simulate(out)) == unbroken
    assert not list(out.rglob("*.draft"))
    capsys.readouterr()


def test_attacks_without_room_are_no_attacks_that_failed(tmp_path: Path) -> None:
    sound(tmp_path / "arm")
    methods = expand("attack", resolve("attack", "--attack", {"kind": "hrec"}))
    attackers._of_this_process.cache_clear()
    try:
        with limited(100):  # room enough to find out where temporary files go
            attackers.start()
        with pytest.raises(RunFailure, match="no room for their answers"):
            attackers.run_attacks(tmp_path / "arm", methods)
    finally:
        attackers._of_this_process.cache_clear()
    answers, failures = attackers.run_attacks(tmp_path / "arm", methods)
    assert (list(answers), failures) == (["hrec"], {})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_disk_refuses_is_one_sentence(
    number: int, wrapped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, recoverable(tmp_path):
        try:
            raise OSError(number, "refused", str(tmp_path / "file"))
        except OSError as error:
            if wrapped:
                raise RuntimeError("the library's own words") from error
            raise
    assert ended.value.exit_code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the run failed: ")
    assert "refused" not in line
    assert str(tmp_path / "file") in line or number == errno.EMFILE


def test_what_cannot_be_written_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with limited(10), pytest.raises(OSError, match=str(path)):
        write_atomically(path, "new" * 100)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
