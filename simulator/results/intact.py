"""Whether a run's directory is still what the run wrote, before anything in it is gone on with, shown or sent."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from palimpsest.simulator.results.reading import RunFilesError
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles

_DRAFT = re.compile(r"\..+\.(\d+)\.draft")


@contextmanager
def alone(directory: RunDirectory) -> Iterator[None]:
    """Keep every other process from running, resuming or scoring in a directory for a while; it exists.

    Raises:
        RunFilesError: another process does.
    """
    with directory.run_lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFilesError(
                f"another process is at work in {directory.path}: wait until it has ended, or end it"
            ) from None
        yield


def check_places(directory: RunDirectory) -> None:
    """Refuse a directory in which something else stands in the place of a file or a folder.

    A pipe in the place of a file would be waited for, a file in the place of a folder fails after the training, and
    through a link something outside the directory would be written.

    Raises:
        RunFilesError: says what to move away.
    """
    for file in directory.regular_files:
        if os.path.lexists(file) and (file.is_symlink() or not file.is_file()):
            raise RunFilesError(f"{file} is no regular file: move it away, then resume: {_resume(directory)}")
    for folder in (*directory.folders, directory.figures):
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            raise RunFilesError(f"{folder} is no folder: move it away, then resume: {_resume(directory)}")


def remove_strays(directory: RunDirectory) -> None:
    """Remove what writers that were killed have left: drafts of files, of processes that are gone."""
    for place in (directory.path, *directory.folders, directory.figures):
        for draft in place.glob(".*.draft"):
            named = _DRAFT.fullmatch(draft.name)
            if named is None or _lives(int(named[1])):
                continue
            if draft.is_dir() and not draft.is_symlink():
                shutil.rmtree(draft)
            else:
                draft.unlink(missing_ok=True)


def check_finished(run: RunFiles) -> None:
    """Refuse to show or add to a finished run that is not what it was when it was written.

    Runs of older versions have no seals, and are taken as they are.

    Raises:
        RunFilesError: says what was changed, and what to do.
    """
    directory = run.directory
    begun = directory.begun_with()
    if not begun:
        return
    directory.check_scenario()
    for arm in run.arms:
        files = run.files(arm)
        why = files.fault(begun, heard=False)
        if not why and files.result() != arm:
            why = f"{directory.results_file.name} says of the arm {arm.arm} what its own file does not"
        if why:
            raise RunFilesError(
                f"{directory.path} was changed since it was written: {why}; this makes it whole again: "
                f"{_resume(directory)}"
            )


def _resume(directory: RunDirectory) -> str:
    return f"palimpsest resume {directory.path}"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # of another user, or of no process that there can be
        return True
    return True
