"""Two checkpoints of somebody else's model: which attacks apply to the deletion between them, what each gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from palimpsest.attacks.session import Answer, attack_transcript
from palimpsest.simulator.attack_metrics.answers import answer_card
from palimpsest.simulator.attack_metrics.card import Material, Truth
from palimpsest.simulator.attack_metrics.explained import explained
from palimpsest.simulator.attack_metrics.score import AttackScore, score_answer
from palimpsest.simulator.audit.applicable import applicable
from palimpsest.simulator.audit.candidates import Candidates, conclusion
from palimpsest.simulator.audit.checkpoints import read_checkpoint
from palimpsest.simulator.audit.drawing import draw
from palimpsest.simulator.audit.results import AuditedAttack, AuditResult
from palimpsest.simulator.audit.setting import Deletion, knowledge_of, transcript_of
from palimpsest.simulator.audit.verdict import sentence, verdict
from palimpsest.simulator.results.answers import save_answers
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.world.data.public_file import PublicSample, read_like, read_public
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.models.fitting import fitted, spec_for
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge, cases_of
from palimpsest.simulator.world.protocols.transcript import Transcript, TranscriptWriter
from palimpsest.simulator.world.records import Case, Params, Reconstruction, Release
from palimpsest.simulator.world.specs import ModelSpec


@dataclass(frozen=True)
class AuditQuestion:
    """What is audited.

    Attributes:
        before, after: checkpoints of the model before and after the deletion.
        model: its name in the table of models.
        options: its hyper-parameters.
        public: npz file of public records, see ``read_public``.
        truth: npz file of the deleted records, where they are known.
        deletion: what is known of it.
        attacks: names; all that apply where none is given.
        candidates: npz file of records of which is asked whether they were deleted.
    """

    before: Path
    after: Path
    model: str
    public: Path
    options: Mapping[str, Any]
    truth: Path | None = None
    deletion: Deletion = field(default_factory=Deletion)
    attacks: tuple[str, ...] = ()
    candidates: Path | None = None


def deletion_of(**about: Any) -> Deletion:
    """What is known of a deletion, checked.

    Raises:
        ScenarioError: a value is out of its range.
    """
    try:
        return Deletion(**about)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = {"regularisation": "lambda"}.get(str(first["loc"][0]), str(first["loc"][0]))
        said = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
        raise ScenarioError(f"--{key} {first['input']}: {said.replace('input ', 'it ')}") from None


def audit(question: AuditQuestion, out: Path) -> AuditResult:
    """Attack the deletion between two checkpoints, and write what was found.

    ``out`` gets ``audit.json``, ``answers.safetensors``, ``transcript/`` with the public knowledge beside it, which
    ``palimpsest attack`` reads, and for images, and for tables where the truth is given, ``answers.png``.

    Raises:
        DataError, ModelError, ScenarioError: one sentence that says what does not fit.
    """
    public = read_public(question.public)
    truth = None if question.truth is None else _truth(question.truth, public, question.deletion)
    asked = None if question.candidates is None else Candidates.read(question.candidates, public)
    status = None if truth is None or asked is None else asked.status(truth)
    spec, releases = _models(question, public)
    chosen = applicable(model_of(spec), question.attacks, candidates=asked is not None)
    known = knowledge_of(public, spec, question.deletion, *releases)
    known = known if asked is None else replace(known, challenge=asked.challenge)
    directory = transcript_of(out)
    shas = _write(releases, known, directory, out)
    answers = attack_transcript(directory, chosen.attacks, known)
    case = cases_of(Transcript.open(directory), known.facts)[0]
    marks = {} if truth is None else _marks(answers, truth, known, status)
    attempts = {name: _attempt(name, answer, case, known, marks.get(name)) for name, answer in answers.items()}
    said = verdict(attempts, truth is not None, case.silent)
    judged = {} if asked is None else asked.judged(answers)
    result = AuditResult(
        model=spec,
        deletion=question.deletion,
        before=shas[0],
        after=shas[1],
        assumed=tuple(question.deletion.assumed()),
        verdict=said if asked is None else f"{said} {conclusion(judged, status)}",
        attacks=attempts if asked is None else {name: asked.told(name, attempts[name], judged) for name in attempts},
        left_out=dict(chosen.left_out),
    )
    save_answers(out / "answers.safetensors", answers)
    write_atomically(out / "audit.json", result.model_dump_json(indent=1))
    draw(out / "answers.png", answers, marks, truth, known, said)
    return result


def _models(question: AuditQuestion, public: PublicSample) -> tuple[ModelSpec, list[Params]]:
    """The architecture, and the checkpoints before and after as models of it."""
    spec = spec_for(question.model, question.options, public.schema, question.deletion.regularisation)
    _check_numbers(question.deletion, spec)
    paths = (question.before, question.after)
    given = [read_checkpoint(path) for path in paths]
    if all(value.dtype == np.float64 for arrays in given for value in arrays.values()):
        spec = spec.model_copy(update={"dtype": "float64"})
    return spec, [fitted(spec, arrays, str(path)) for arrays, path in zip(given, paths, strict=True)]


def _check_numbers(deletion: Deletion, spec: ModelSpec) -> None:
    """Raise ScenarioError where a number is missing without which others mean nothing."""
    if deletion.regularisation and deletion.n is None:
        raise ScenarioError("a lambda was given without n, the number of training records, beside which it counts")
    if spec.task == "regression" and deletion.rule == "step" and deletion.step is None:
        raise ScenarioError("targets of a regression cannot be told without the length of the step: give --step")


def _truth(path: Path, public: PublicSample, deletion: Deletion) -> Truth:
    x, y = read_like(path, public)
    if len(x) != deletion.records:
        raise DataError(f"{path} has {len(x)} records, and {deletion.records} were deleted: give --records {len(x)}")
    return Truth(0, x, y.astype(np.float64))


def _write(releases: Sequence[Params], known: PublicKnowledge, directory: Path, out: Path) -> list[str]:
    """The transcript of two releases, and the knowledge beside it; returns the digests of the two."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise ScenarioError(f"--out {out} holds something already: name a new directory")
        writer = TranscriptWriter(directory)
        writer.append(Release(branch=0, round=0, phase="training", params=releases[0]))
        writer.append(Release(branch=1, round=1, phase="unlearning", params=releases[1]), parent=0)
        known.save(directory)
    except OSError as error:
        raise ScenarioError(f"--out {out} cannot be written to: {error.strerror}; name another place") from None
    return [line.sha256 for line in writer.heard]


def _marks(
    answers: Mapping[str, Answer], truth: Truth, known: PublicKnowledge, status: NDArray[np.int64] | None
) -> dict[str, AttackScore]:
    """Scores against the truth; no held-out records are there to pick the deleted one out of, but public ones."""
    nobody = np.zeros((0, known.x.shape[1]))
    material = Material([truth], known, nobody, status, 0)
    return {name: score_answer(name, answer, material) for name, answer in answers.items()}


def _attempt(
    name: str, answer: Answer, case: Case, known: PublicKnowledge, scored: AttackScore | None
) -> AuditedAttack:
    guess = answer.guesses[0]
    share = explained(guess, case, known) if isinstance(guess, Reconstruction) else None
    figures = None if scored is None else scored.figures
    lines = answer_card(guess.name).lines(guess, known.facts.schema_)
    return AuditedAttack(
        promises=guess.name,
        says=sentence(name, guess, lines, share, figures),
        explained=share,
        figures=figures,
        seconds=answer.cost.seconds,
    )
