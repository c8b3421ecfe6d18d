"""A new attack on a run that is done: scored against the truth that lies there, and added to what was found."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from palimpsest.server.session import Processed
from palimpsest.simulator.attack_metrics.card import AnswerError, Material, Truth
from palimpsest.simulator.attack_metrics.challenge import pose
from palimpsest.simulator.attack_metrics.score import AttackScore, score_answer
from palimpsest.simulator.experiment.attacked import attack
from palimpsest.simulator.experiment.finite import not_finite
from palimpsest.simulator.experiment.request_rows import with_attack
from palimpsest.simulator.experiment.secrecy import check_kept, check_same
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.plan import Arm, plan
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.results import comparison
from palimpsest.simulator.results.arm_files import ArmFiles, Records
from palimpsest.simulator.results.intact import alone, check_finished
from palimpsest.simulator.results.provenance import versions
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.results.schema import ArmResult, RunResults
from palimpsest.simulator.results.verdicts import judged
from palimpsest.simulator.scenario.entries import Entry, resolve
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario, scenario_from_dict
from palimpsest.simulator.scenario.registry import card
from palimpsest.simulator.tracking.upload import Tracked, track
from palimpsest.simulator.world.files import cache_directory
from palimpsest.simulator.world.models.kinds import suits
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import Array, branch_of


def score(path: Path, entry: Entry) -> tuple[RunFiles, Tracked]:
    """Attack every arm of a finished run that an attack works on, and add what it found.

    Transcripts, other attacks' answers and figures, and the scenario stay as they are. The answers are those that the
    run would have had with the attack in its scenario.

    Args:
        path: of the run's directory.
        entry: ``{"kind": ..., hyper-parameters}``.

    Returns:
        The run with the attack, and what became of the upload to MLflow.

    Raises:
        RunFilesError: there is no finished run.
        ScenarioError: the run has this attack already, or cannot be attacked by it; or its answer cannot be scored; or
            its data are others now, or its secret is not given.
    """
    with alone(RunFiles.open(path).directory):
        run = RunFiles.open(path)  # as it is now: another process may have added to it meanwhile
        check_kept(run.directory)
        check_finished(run)
        begun = run.directory.begun_with()
        scenario = _with_attack(run, resolve("attack", "--attack", entry))
        check_same(run.directory, scenario)
        with one_thread():
            added = _add_all(run, scenario, str(entry["kind"]), begun)
        if not added:
            raise ScenarioError(f"{path}: no arm completed a deletion that {entry['kind']!r} could be scored on")
        run.directory.note_attack({"attack": resolve("attack", "--attack", entry), "versions": versions()})
        return _finish(run)


def _add_all(run: RunFiles, scenario: Scenario, kind: str, begun: str) -> int:
    """Attack every arm that the attack works on; how many were scored."""
    added = 0
    for prefix in plan(scenario).prefixes:
        arms = [arm for arm in prefix.arms if any(method.kind == kind for method in arm.attacks)]
        preparation = PreparedTraining.of(scenario, prefix, cache_directory() / "populations") if arms else None
        for arm in arms:
            assert preparation is not None  # there are arms
            added += _add(run.directory.arm(arm.id), arm, kind, preparation, begun)
    return added


def _with_attack(run: RunFiles, entry: Entry) -> Scenario:
    """The run's scenario with one more attack, where it works; checked as if it had stood there."""
    content, kind = run.directory.scenario(), entry["kind"]
    if all(kind in arm.attacks for arm in run.arms if arm.requests_completed):
        raise ScenarioError(
            f"{run.directory.path} has the attack {kind!r} already; a transcript is attacked once by each kind"
        )
    kinds = {v["name"]: v["model"]["kind"] for v in content.get("variant", [])}
    suited = [name for name, model in kinds.items() if suits(card("attack", kind), model)]
    narrowed = {"only": suited} if suited and len(suited) < len(kinds) else {}
    others = [other for other in content["attack"] if other["kind"] != kind]
    return scenario_from_dict(content | {"attack": [*others, entry | narrowed]})


def _add(files: ArmFiles, arm: Arm, kind: str, preparation: PreparedTraining, begun: str) -> int:
    """Attack one arm, and write what was found into its files; 0 where it completed no deletion."""
    result, truth = files.result(), files.truth()
    if truth is None or not result.requests_completed:
        return 0
    method = next(method for method in arm.attacks if method.kind == kind)
    attacked = attack(files.transcript, [method])
    if kind not in attacked.answers:
        raise ScenarioError(f"{arm.id}: {attacked.failures.get(kind, 'the attack did not answer')}")
    material = material_of(files, truth, result, arm, preparation, "challenge" in method.card.needs)
    try:
        marked = score_answer(kind, attacked.answers[kind], material)
    except AnswerError as error:
        raise ScenarioError(f"{arm.id}: {error}") from None
    if name := not_finite({**marked.figures, "cases": marked.cases}):
        raise ScenarioError(f"{arm.id}: the {name} of the attack {kind!r} is not finite")
    attacks = {**result.to_json()["attacks"], kind: marked.figures}
    requests = with_attack(result.requests, kind, marked)
    scored = judged({**result.to_json(), "attacks": attacks, "requests": requests})
    files.add_answers(attacked.answers)  # nothing is written before all is known to be sound
    files.write_scores(_scores(files.scores(), marked, kind))
    files.write_requests(scored.requests)
    files.write_result(scored, begun)
    return 1


def _scores(before: pd.DataFrame | None, marked: AttackScore, kind: str) -> pd.DataFrame:
    kept = [] if before is None else [before[before["attack"] != kind]]
    return pd.concat([*kept, marked.frame], ignore_index=True)


def material_of(
    files: ArmFiles, truth: Records, result: ArmResult, arm: Arm, preparation: PreparedTraining, challenged: bool
) -> Material:
    """What the answers are scored against: the deleted records, the whole public sample, and held-out records.

    Args:
        files: of the arm.
        truth: its deleted records.
        result: what was found of it.
        arm: as it was planned.
        preparation: its training.
        challenged: whether the solution of its challenge is wanted too.

    Raises:
        ScenarioError: the challenge cannot be posed again.
    """
    population = preparation.population
    known = PublicKnowledge.open(files.transcript / "knowledge.json")
    whole = replace(known, x=np.asarray(population.public_x, np.float64), y=np.asarray(population.public_y))
    truths = [
        Truth(int(case), truth.x[rows].astype(np.float64), truth.y[rows].astype(np.float64))
        for case in np.unique(truth.case)
        if len(rows := truth.of_case(int(case)))
    ]
    status = _status(known, result, arm, preparation) if challenged else None
    held_out = np.asarray(population.test_x, dtype=np.float64)
    return Material(truths, whole, held_out, status, arm.entropy)


def _status(known: PublicKnowledge, result: ArmResult, arm: Arm, preparation: PreparedTraining) -> NDArray[np.int64]:
    """The solution of the challenge that lies beside the transcript: posed again, and compared."""
    if result.requests_completed != result.requests_made:
        raise ScenarioError(
            f"arm {arm.id} refused some of its requests, so that the solution of its challenge cannot be drawn again; "
            f"run the scenario anew with this attack"
        )
    forgotten: dict[int, tuple[int, ...]] = {}
    processed = []
    for request in preparation.requests:
        base = forgotten if arm.setting.deletion.pattern == "sequential" else {}
        forgotten = {
            client: tuple(sorted({*base.get(client, ()), *request.forget.get(client, ())}))
            for client in {**base, **request.forget}
        }
        case = UnlearningCase(branch_of(request), request, forgotten, request.round, {})
        processed.append(Processed(case, 0, 0, {}, {}))
    posed = pose(processed, preparation.population, arm.entropy)
    asked = known.challenge
    if asked is None or not _same(posed.challenge.x, asked.x):
        raise ScenarioError(
            f"the data of {result.data.source!r} are not those that the run was made with: its challenge holds other "
            f"records; restore them, or run the scenario anew"
        )
    return posed.status


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b))


def _finish(run: RunFiles) -> tuple[RunFiles, Tracked]:
    """Write ``results.json`` anew, and draw and track what is in it."""
    from palimpsest.simulator.figures.all import draw_all

    directory: RunDirectory = run.directory
    arms: Sequence[ArmResult] = [directory.arm(arm.arm).result() for arm in run.arms]
    content: dict[str, Any] = {**run.results.to_json(), "arms": [arm.to_json() for arm in arms]}
    results = RunResults.model_validate(content)
    directory.write_results(results)
    finished = RunFiles(directory, results)
    draw_all(directory.path)
    comparison.write(finished)
    uri = str(directory.scenario().get("tracking", {}).get("uri", ""))
    return finished, track(directory.path, uri)
