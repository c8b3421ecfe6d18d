"""Transcripts for strangers: handed out without names and order; answers are scored against the truth that stays."""

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from palimpsest.attacks.cost import Cost
from palimpsest.attacks.session import Answer
from palimpsest.simulator.attack_metrics.score import score_answer
from palimpsest.simulator.experiment.added_attack import material_of
from palimpsest.simulator.experiment.foreign_answers import read_answers
from palimpsest.simulator.experiment.secrecy import check_kept, check_same
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.results.arm_files import ArmFiles
from palimpsest.simulator.results.intact import check_finished
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.world.files import cache_directory, write_atomically
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.messages import MESSAGES
from palimpsest.simulator.world.protocols.streams import withheld, write_renamed, write_stream
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.specs import Frozen

_MEASURED = ("seconds", "seconds_per_record", "peak_memory_bytes")
"""Figures of the attack's run, which was somewhere else."""


class HandedOut(Frozen):
    """What a transcript that was handed out is of.

    Attributes:
        arm: its id.
        cases: of each of the transcript's cases the index in the run.
    """

    arm: str
    cases: tuple[int, ...]


_KEY = TypeAdapter(dict[str, HandedOut])


def hand_out(path: Path, out: Path) -> list[Path]:
    """Write every arm's transcript for strangers; what each is of stays in the run's directory.

    Args:
        path: of a finished run under a given secret.
        out: a directory that does not exist or is empty.

    Returns:
        The transcripts, in no order: of each arm one, or one for each deletion where brackets are withheld.

    Raises:
        RunFilesError: there is no finished run.
        ScenarioError: it has no secret, or clients' messages lie beside its transcripts; or ``out`` cannot be used.
    """
    run = RunFiles.open(path)
    check_finished(run)
    _check_secret(run)
    pieces = [piece for arm in run.arms if arm.requests_completed for piece in _pieces(run.files(arm), arm.arm)]
    secrets.SystemRandom().shuffle(pieces)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise ScenarioError(f"--out {out} holds something already: name a new directory")
    except OSError as error:
        raise ScenarioError(f"--out {out} cannot be written to: {error.strerror}; name another place") from None
    key = _key(run.directory)
    for piece in pieces:
        name = secrets.token_hex(4)
        _write(run.directory.arm(piece.arm).transcript, piece.cases, out / name)
        key[name] = piece
    write_atomically(run.directory.handed_out, _KEY.dump_json(key, indent=1))
    for written in (*out.rglob("*"), out):
        os.utime(written, (0, 0))
    return sorted(place for place in out.iterdir())


def score_answers(path: Path, name: str, answers: Path) -> dict[str, dict[str, Any]]:
    """Score a stranger's answers to a transcript that was handed out.

    Args:
        path: of the run.
        name: of the transcript's directory.
        answers: safetensors file, as ``palimpsest attack`` writes it.

    Returns:
        Figures by the name of the attack.

    Raises:
        RunFilesError: there is no finished run.
        TranscriptError: the answers cannot be read.
        ScenarioError: the run handed out no such transcript, or the answers are none to its cases.
    """
    run = RunFiles.open(path)
    check_finished(run)
    piece = _key(run.directory).get(name)
    if piece is None:
        raise ScenarioError(f"{path} handed out no transcript {name!r}; name the directory that the answers are about")
    check_kept(run.directory)
    scenario = scenario_from_dict(run.directory.scenario())
    check_same(run.directory, scenario)
    prefix, arm = next((p, arm) for p in plan(scenario).prefixes for arm in p.arms if arm.id == piece.arm)
    files = run.directory.arm(arm.id)
    known = PublicKnowledge.open(files.transcript / "knowledge.json")
    given = read_answers(answers, known, [known.facts.cases[case].size for case in piece.cases])
    truth = files.truth()
    assert truth is not None  # or it would not have been handed out
    found = {}
    with one_thread():
        preparation = PreparedTraining.of(scenario, prefix, cache_directory() / "populations")
        whole = material_of(files, truth, files.result(), arm, preparation, known.challenge is not None)
        chosen = sorted(piece.cases)
        status = None if whole.status is None else whole.status[chosen]
        material = replace(whole, truths=[whole.truths[case] for case in chosen], status=status)
        for kind, guesses in given.items():
            placed: list[Any] = [replace(guess, case=piece.cases[guess.case]) for guess in guesses]
            placed.sort(key=lambda guess: guess.case)
            figures = score_answer(kind, Answer(placed, Cost(0.0)), material).figures
            found[kind] = {figure: value for figure, value in figures.items() if figure not in _MEASURED}
    return found


def _check_secret(run: RunFiles) -> None:
    """Raise ScenarioError where a transcript gives away, or nobody could score, what is asked."""
    if run.results.secret == "given":
        return
    but = (
        "its secret was random, and nobody could score the answers"
        if run.results.secret == "random"
        else "it has no secret, so that whoever tries seeds finds everything private"
    )
    raise ScenarioError(
        f"{run.directory.path} cannot be handed out: {but}; run the scenario anew with privacy.secret = 'given'"
    )


def _pieces(files: ArmFiles, arm: str) -> Iterator[HandedOut]:
    """What of an arm is handed out together, in random order."""
    if (files.transcript / MESSAGES).is_dir():
        raise ScenarioError(
            f"{arm} holds what clients sent, which names them: only runs with adversary.sees = 'releases' or "
            f"'broadcasts' can be handed out"
        )
    facts = PublicKnowledge.open(files.transcript / "knowledge.json").facts
    cases = list(range(len(facts.cases)))
    secrets.SystemRandom().shuffle(cases)
    yield from (
        [HandedOut(arm=arm, cases=(case,)) for case in cases]
        if withheld(facts)
        else [HandedOut(arm=arm, cases=tuple(cases))]
    )


def _write(transcript: Path, cases: Sequence[int], folder: Path) -> None:
    known, heard = PublicKnowledge.open(transcript / "knowledge.json"), Transcript.open(transcript)
    if withheld(known.facts):
        write_stream(heard, known, cases[0], folder)
    else:
        write_renamed(heard, known, cases, folder)


def _key(directory: RunDirectory) -> dict[str, HandedOut]:
    if not directory.handed_out.is_file():
        return {}
    return _KEY.validate_json(directory.handed_out.read_bytes())
