"""Ground truth meets what an arm's server did and what its attacks answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from palimpsest.server.session import Processed
from palimpsest.simulator.attack_metrics.bounds import bounds, spans_of
from palimpsest.simulator.attack_metrics.card import AnswerError, Material, Truth
from palimpsest.simulator.attack_metrics.gains import gains
from palimpsest.simulator.attack_metrics.priors import THRESHOLDS, best_guesses
from palimpsest.simulator.attack_metrics.score import AttackScore, score_answer
from palimpsest.simulator.experiment.attacked import Attacked, Granted, public_of
from palimpsest.simulator.experiment.finite import check_measured, not_finite
from palimpsest.simulator.experiment.identity import identity
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.experiment.request_rows import request_rows
from palimpsest.simulator.experiment.served import Served
from palimpsest.simulator.planning.drawing import strata_of
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.privacy import privacy_entry
from palimpsest.simulator.unlearning_metrics.compare import Ended
from palimpsest.simulator.unlearning_metrics.costs import cost
from palimpsest.simulator.unlearning_metrics.relearning import relearned
from palimpsest.simulator.world.protocols.events import RoundDone
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator


@dataclass(frozen=True)
class Evaluation:
    """What an arm's models are worth beside retrained ones.

    Attributes:
        entry: ``utility`` and ``forgetting`` of ``results.json``.
        rows: behind it, by request and model.
    """

    entry: Mapping[str, Any]
    rows: pd.DataFrame

    @property
    def utilities(self) -> dict[int, float]:
        """Of the models that requests ended in, by request index; empty where utility is not measured."""
        if "utility" not in self.rows:
            return {}
        after = self.rows[self.rows["model"] == "unlearned"]
        return dict(zip(after["request"], after["utility"], strict=True))


@dataclass(frozen=True)
class Assessed:
    """What is known of an arm in the end.

    Attributes:
        entry: the arm's of ``results.json``, without its verdict.
        scores: a row for each attack and target.
        forgetting: a row for each request and model; empty where no request was completed.
        truth: ``x``, ``y`` and ``case`` of the deleted records; empty where no request was completed.
        rounds: a line for each model of the server, see ``Round``.
        failures: of each attack that failed or whose answer cannot be scored, why, as the rest of a sentence.
    """

    entry: Mapping[str, Any]
    scores: pd.DataFrame
    forgetting: pd.DataFrame
    truth: Mapping[str, Array]
    rounds: Sequence[Mapping[str, Any]]
    failures: Mapping[str, str]


def evaluate(inputs: ArmInputs, served: Served, granted: Granted) -> Evaluation:
    """What needs no attack's answer: utility and forgetting beside the hidden retrainings, and the rows behind them.

    The best guess without a model is looked for too, which ``assess`` will ask for.

    Raises:
        SettledFailure: the arm's models have grown too large to be measured.
    """
    if _is_bounded(inputs, served) and any(attack.card.promises == "reconstruction" for attack in inputs.arm.attacks):
        population = inputs.shared.preparation.population
        best_guesses(population.public_x, public_of(inputs, granted).mean, _of_bounds(inputs))
    return _worth(inputs, served.processed)


def assess(
    inputs: ArmInputs, served: Served, granted: Granted, attacked: Attacked, worth: Evaluation, digest: str
) -> Assessed:
    """Score attacks, and sum up what is known, costs and privacy.

    Args:
        inputs: of the arm.
        served: what its server did.
        granted: what its adversary knew.
        attacked: what its attacks answered.
        worth: of ``evaluate``.
        digest: of its transcript.

    Raises:
        SettledFailure: the arm's models have grown too large to be measured.
    """
    shared, processed = inputs.shared, served.processed
    public = public_of(inputs, granted)
    marks, failures = _marks(inputs, processed, attacked, public, granted)
    entry = {
        **identity(inputs),
        "requests_made": len(shared.preparation.requests),
        "requests_completed": len(processed),
        "requests": request_rows(inputs, served, worth.rows, marks),
        "transcript_digest": digest,
        **worth.entry,
        "attacks": _attacks(marks, inputs.arm.seed) if processed else {},
        **({"failed_attacks": failures} if failures else {}),
        "privacy": _privacy(inputs, served) | _bounds(inputs, served, marks, public),
        "notes": _notes(processed),
        "cost": cost(
            served.costs,
            served.seconds,
            shared.history.record.stored_for(inputs.arm.unlearning.card.needs),
            shared.reference,
            worth.utilities,
        ),
    }
    check_measured(entry)
    frames = [marked.frame for marked in marks.values() if len(marked.frame)]
    scores = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return Assessed(entry, scores, worth.rows, _truth(inputs, processed), _curve(inputs, served), failures)


def _curve(inputs: ArmInputs, served: Served) -> list[dict[str, Any]]:
    """A line for each model: of the training, as far as the arm's server came with it, and of the server's own."""
    keys, rounds = ("round", "phase", "step", "utility", "loss", "update_norm", "epsilon"), inputs.shared.rounds
    if inputs.arm.setting.deletion.pattern == "sequential":
        first = min(request.round for request in inputs.shared.preparation.requests)
        rounds = [done for done in rounds if done.round <= first]
    told: list[tuple[RoundDone, dict[str, int]]] = [(done, {}) for done in rounds]
    told += [(done, {} if done.request is None else {"request": done.request + 1}) for done in served.life]
    return [
        {**{key: value for key in keys if (value := getattr(done, key)) is not None}, **more} for done, more in told
    ]


def _marks(
    inputs: ArmInputs, processed: Sequence[Processed], attacked: Attacked, public: PublicKnowledge, granted: Granted
) -> tuple[dict[str, AttackScore], dict[str, str]]:
    """Each attack's scores, by its kind; of those that have none, why."""
    truths = []
    for case, p in enumerate(processed):
        x, y = inputs.forgotten(p)
        truths.append(Truth(case, x.astype(np.float64), y.astype(np.float64)))
    candidates = np.asarray(inputs.shared.preparation.population.test_x, dtype=np.float64)
    status = None if granted.posed is None else granted.posed.status
    material = Material(truths, public, candidates, status, inputs.arm.entropy)
    marks, failures = {}, dict(attacked.failures)
    for kind, answer in attacked.answers.items():
        try:
            marked = score_answer(kind, answer, material)
        except AnswerError as error:  # no other: a fault of the scoring itself is not the attack's
            failures[kind] = str(error)
            continue
        if name := not_finite({**marked.figures, "cases": marked.cases}):
            failures[kind] = f"its {name} is not finite"
        else:
            marks[kind] = marked
    return marks, failures


def _attacks(marks: Mapping[str, AttackScore], seed: int) -> dict[str, Mapping[str, Any]]:
    """Each attack's figures, those beside answers that read no model included."""
    beside = gains({kind: marked.frame for kind, marked in marks.items()}, generator(seed, "gains"))
    return {kind: {**marked.figures, **beside.get(kind, {})} for kind, marked in marks.items()}


def _truth(inputs: ArmInputs, processed: Sequence[Processed]) -> dict[str, Array]:
    """The deleted records of all cases, one below the other."""
    records = [inputs.forgotten(p) for p in processed]
    if not records:
        return {}
    return {
        "x": np.concatenate([x for x, _ in records]).astype(np.float64),
        "y": np.concatenate([y for _, y in records]).astype(np.float64),
        "case": np.concatenate([np.full(len(y), case) for case, (_, y) in enumerate(records)]),
    }


def _worth(inputs: ArmInputs, processed: Sequence[Processed]) -> Evaluation:
    """Utility and forgetting beside the hidden retrainings, and the rows behind them."""
    shared, unlearner = inputs.shared, inputs.arm.unlearning
    reference = shared.reference
    ended = [Ended(p.case, p.released, reference.of(p.case.request.index)) for p in processed]
    chain = inputs.arm.setting.deletion.pattern == "sequential"
    entry, rows = shared.evaluator.worth(ended, chain)
    entry["forgetting"]["exact"] = unlearner.card.promises == "exact"
    if entry["forgetting"]["exact"]:
        entry["forgetting"]["exact_for_adaptive_requests"] = unlearner.card.stays_exact(unlearner)
    if not processed:
        return Evaluation(entry, pd.DataFrame())
    models = {p.case.request.index: p.released for p in processed}
    most = inputs.scenario.evaluation.relearning
    rounds = shared.relearn(inputs.arm.id, [p.case for p in processed], models, most)
    entry["forgetting"] |= relearned(rounds, reference.relearning, most)
    return Evaluation(entry, rows)


def _privacy(inputs: ArmInputs, served: Served) -> dict[str, Any]:
    """What differential privacy was spent; that noise came from the operating system is said where it did."""
    setup = inputs.shared.preparation.setup
    entry = privacy_entry(served.account, inputs.privacy_budget, served.processed)
    if setup.private:
        entry["noise"] = "system: this run cannot be repeated" if setup.secure_noise else "seeded"
        entry["amplified_by_client_sampling"] = setup.amplified and served.account.unit == "client"
    return entry


def _bounds(
    inputs: ArmInputs, served: Served, marks: Mapping[str, AttackScore], knowledge: PublicKnowledge
) -> dict[str, Any]:
    """How often attacks may succeed; absent where no attack has a score, and where ``_is_bounded`` says no."""
    if not marks or not _is_bounded(inputs, served):
        return {}
    preparation = inputs.shared.preparation
    solved = preparation.setup.plan.algorithm in ("lbfgs", "closed-form")
    spans = spans_of(served.account, served.processed, solved)
    scores = {kind: marked.frame for kind, marked in marks.items()}
    comparisons = len(plan(inputs.scenario).arms) * len(scores) * (1 + len(THRESHOLDS))
    setting, rng = preparation.setting, _of_bounds(inputs)
    strata = strata_of(setting.deletion, preparation.population, alike=setting.data.partition.scheme == "iid")
    return {"bounds": bounds(scores, spans, preparation.population.public_x, knowledge.mean, comparisons, rng, strata)}


def _is_bounded(inputs: ArmInputs, served: Served) -> bool:
    """Whether attacks are bounded: not where labels or clients are granted, as the prior is another one then."""
    return bool(served.processed) and not inputs.arm.setting.adversary.knows


def _of_bounds(inputs: ArmInputs) -> np.random.Generator:
    """Splits the public records that the best guess is looked for on."""
    return generator(inputs.arm.seed, "bounds")


def _notes(processed: Sequence[Processed]) -> dict[str, float]:
    """What the method reported of itself: the mean over the requests that reported it."""
    names = sorted({name for p in processed for name in p.notes})
    return {name: float(np.mean([p.notes[name] for p in processed if name in p.notes])) for name in names}
