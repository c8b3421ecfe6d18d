"""What every attack must do, whatever it answers with.

Each function checks one thing of an attack that is registered, built in or announced by an entry point, on deletions
from models that are solved for here; ``check_attack`` checks all of them. ``settings`` are hyper-parameters that make
it shorter.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from palimpsest.attacks.session import answer
from palimpsest.simulator.scenario.registry import card, method_class
from palimpsest.simulator.testing.frozen import check_frozen
from palimpsest.simulator.testing.knowledge import check_knowledge, check_questions
from palimpsest.simulator.testing.transcripts import ascending, challenged, diabetes, digits, forgetting
from palimpsest.simulator.world.models.kinds import model_card, suited, suits
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.queries import QueryAttack
from palimpsest.simulator.world.records import Array, Case, Guess, Labels, Message, Reconstruction, Scores
from palimpsest.simulator.world.specs import FeatureSpec

PLACES = ("ridge", "ridge-features", "softmax", "svm", "regression", "regression-features", "mlp", "cnn")
"""Models, of classes but for ``regression``; with ``features``, behind a random feature map."""
DELETIONS = [[0], [1, 2, 3], [4], [5, 6], list(range(10, 33))]
ANSWERS: dict[str, type[Guess]] = {"reconstruction": Reconstruction, "labels": Labels, "scores": Scores}
"""What an answer is, by what the attack's card promises."""


def check_attack(name: str, **settings: Any) -> None:
    """Check everything that is asked of an attack.

    Args:
        name: under which it is registered.
        **settings: its hyper-parameters; all have defaults.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    made = made_of(name, **settings)
    check_frozen(made, "kind", name)
    about, promised = card("attack", name), card("attack", name).promises
    assert suited(about), f"{name}: its card suits no built-in model, and the suite works on those alone"
    assert promised in ANSWERS, f"{name}: its card promises {promised!r}; known here: {', '.join(ANSWERS)}"
    for where in places(name):
        check_answers(name, where, **settings)
        check_order(name, where, **settings)
        if promised == "reconstruction":
            check_granted_labels(name, where, **settings)
    if promised == "reconstruction":
        check_silence(name, **settings)
        check_float32(name, **settings)
    check_knowledge(name, made, *situation(first_place(name)))
    if isinstance(made, QueryAttack):
        check_questions(name, made, *situation(first_place(name)))


def places(name: str) -> list[str]:
    """Those of ``PLACES`` that the attack's card says that it works on."""
    about = card("attack", name)
    return [
        where
        for where in PLACES
        if suits(about, where.partition("-")[0].replace("regression", "ridge"))
        and not ("classes" in about.needs and where.startswith("regression"))
        and not (about.promises != "reconstruction" and where.endswith("features"))
    ]


def first_place(name: str) -> str:
    """A model that the attack works on."""
    about = card("attack", name)
    return "softmax" if suits(about, "softmax") else suited(about)[0]


def situation(where: str) -> tuple[list[Case], PublicKnowledge]:
    """Deletions of several sizes and a silent one, with the knowledge that goes with them, a challenge included."""
    kind, _, extra = where.partition("-")
    features = FeatureSpec(dimension=96, bandwidth=4.0, seed=2) if extra else None
    data = diabetes() if kind == "regression" else digits(private=150, public=120)
    spec = data.spec("ridge" if kind == "regression" else kind, 4.0, features)
    if model_card(spec.kind).linear:
        cases, knowledge = forgetting(data, spec, DELETIONS), data.knowledge(spec)
    else:
        cases, knowledge = ascending(data, spec, DELETIONS, 0.1), data.knowledge(spec, "identity", 0.1)
    asked, _ = challenged(knowledge, data, DELETIONS)
    cases = [replace(case, messages=[_from_the_leaver(case, knowledge.facts.step)]) for case in cases]
    return [*cases, Case(len(cases), 2, cases[0].before, cases[0].before)], asked


def _from_the_leaver(case: Case, step: float) -> Message:
    """What a server hears of the client that asks: the gradient that a step of this size along it was taken with."""
    sent = {name: (value - case.before[name]) / step for name, value in case.after.items()}
    return Message("unlearning", 0, "gradient", "forgotten", (0,), float(case.size), case.before, sent)


def made_of(name: str, **settings: Any) -> Any:
    """The attack with these hyper-parameters."""
    return method_class("attack", name)(**settings)


def guesses(name: str, cases: Sequence[Case], knowledge: PublicKnowledge, **settings: Any) -> list[Any]:
    """What the attack answers; every answer is of the kind that its card promises."""
    answers = answer(made_of(name, **settings), cases, knowledge).guesses
    kind = ANSWERS[card("attack", name).promises]
    assert all(isinstance(guess, kind) for guess in answers), f"{name}: an answer is no {kind.__name__}"
    return answers


def first_guesses(name: str, where: str, **settings: Any) -> list[Any]:
    """What the attack answers to ``situation(where)``: asked once a process, since several checks look at it."""
    made = made_of(name, **settings)
    key = (type(made), where, made.model_dump_json())
    if key not in _ANSWERED:
        _ANSWERED[key] = guesses(name, *situation(where), **settings)
    return _ANSWERED[key]


_ANSWERED: dict[tuple[type, str, str], list[Any]] = {}
"""First answers by class, place and hyper-parameters."""


def check_answers(name: str, where: str, **settings: Any) -> None:
    """Every case gets one finite answer of its form, in order."""
    cases, knowledge = situation(where)
    answers = first_guesses(name, where, **settings)
    assert [guess.case for guess in answers] == [case.index for case in cases], (
        f"{name}: not one answer a case, in order"
    )
    for case, guess in zip(cases, answers, strict=True):
        for value in _arrays(guess):
            assert np.isfinite(value).all(), f"{name} on {where}: an answer is not finite"
        if isinstance(guess, Reconstruction):
            _check_records(f"{name} on {where}", case, guess, knowledge)
            continue
        assert guess.no_signal or not case.silent, f"{name} on {where}: a silent deletion is not flagged"
        if isinstance(guess, Labels):
            assert guess.evidence.shape == (knowledge.facts.model.outputs,), (
                f"{name}: evidence is not one number a class"
            )
            _check_classes(f"{name} on {where}", case, guess.y, knowledge)
            assert (np.diff(guess.y) >= 0).all(), f"{name}: classes do not ascend"
        else:
            assert knowledge.challenge is not None
            entries = (len(knowledge.challenge.y),)
            assert all(value.shape == entries for value in _arrays(guess)), f"{name}: not one score an entry"


def check_order(name: str, where: str, **settings: Any) -> None:
    """Equal cases get equal answers, and their order does not matter."""
    cases, knowledge = situation(where)
    tolerance = 1e-6 if card("attack", name).promises == "reconstruction" else 1e-9
    first, again, backwards = (
        {guess.case: _numbers(guess) for guess in answers}
        for answers in (
            first_guesses(name, where, **settings),
            guesses(name, cases, knowledge, **settings),
            guesses(name, cases[::-1], knowledge, **settings),
        )
    )
    for case, value in first.items():
        assert np.array_equal(value, again[case]), f"{name} on {where}: equal cases get different answers"
        close = np.allclose(backwards[case], value, rtol=1e-6, atol=tolerance)
        assert close, f"{name} on {where}: an answer depends on the order of cases"


def check_silence(name: str, reads_models: bool = True, **settings: Any) -> None:
    """A deletion that changed no bit gets the public mean, flagged.

    Args:
        name: under which it is registered.
        reads_models: False for a baseline that does not look at the models: it flags nothing.
        **settings: its hyper-parameters.
    """
    cases, knowledge = situation(first_place(name))
    answers = first_guesses(name, first_place(name), **settings)
    mean = np.tile(knowledge.mean, (2, 1))
    assert np.array_equal(answers[-1].x, mean), f"{name}: a silent deletion does not get the public mean"
    flags = [guess.no_signal for guess in answers]
    assert flags == [reads_models and case.silent for case in cases], f"{name}: no_signal is {flags}"
    [alone] = guesses(name, cases[-1:], knowledge, **settings)
    assert np.array_equal(alone.x, mean), f"{name}: a silent deletion alone does not get the public mean"


def check_granted_labels(name: str, where: str, **settings: Any) -> None:
    """The answer has exactly the labels that were granted."""
    cases, knowledge = situation(where)
    told = [replace(case, labels=(2.0,) * (case.size - 1) + (7.0,)) for case in cases]
    for case, guess in zip(told, guesses(name, told, knowledge, **settings), strict=True):
        assert tuple(guess.y) == case.labels, (
            f"{name} on {where}: granted labels {case.labels}, answered {tuple(guess.y)}"
        )


def check_float32(name: str, **settings: Any) -> None:
    """Models trained by SGD are released in float32; answers are float64 all the same, and nearly the same.

    Nothing is checked of an attack that does not work on softmax.
    """
    if "softmax" not in places(name):
        return
    cases, knowledge = situation("softmax")
    single = [replace(case, before=_rounded(case.before), after=_rounded(case.after)) for case in cases]
    facts = knowledge.facts.model_copy(update={"model": knowledge.facts.model.model_copy(update={"dtype": "float32"})})
    k = knowledge
    rounded = PublicKnowledge(facts, k.x, k.y, k.box_low, k.box_high, k.challenge)
    exact = first_guesses(name, "softmax", **settings)
    for guess, same in zip(guesses(name, single, rounded, **settings), exact, strict=True):
        assert guess.x.dtype == np.float64, f"{name}: it answers in {guess.x.dtype}"
        assert (np.abs(guess.x - same.x) < 0.05).mean() > 0.9, f"{name}: rounding to float32 changes its answer"


def _check_records(said: str, case: Case, guess: Reconstruction, knowledge: PublicKnowledge) -> None:
    assert guess.x.shape == (case.size, knowledge.x.shape[1]), f"{said}: records of shape {guess.x.shape}"
    assert guess.y.shape == (case.size,), f"{said}: labels of shape {guess.y.shape}"
    assert guess.x.dtype == guess.y.dtype == np.float64, f"{said}: it answers in {guess.x.dtype} and {guess.y.dtype}"
    if knowledge.facts.model.task == "classification":
        _check_classes(said, case, guess.y, knowledge)


def _check_classes(said: str, case: Case, y: Array, knowledge: PublicKnowledge) -> None:
    assert y.shape == (case.size,), f"{said}: classes of shape {y.shape} for {case.size} records"
    assert set(y) <= set(range(knowledge.facts.model.outputs)), f"{said}: {set(y)} are no classes"


def _arrays(guess: Guess) -> list[Array]:
    """Everything numeric in an answer."""
    return [value for value in vars(guess).values() if isinstance(value, np.ndarray)]


def _numbers(guess: Guess) -> Array:
    """What is compared of an answer."""
    if isinstance(guess, Reconstruction):
        return np.column_stack([guess.x, guess.y])
    if isinstance(guess, Labels):
        return guess.evidence
    assert isinstance(guess, Scores), f"{type(guess).__name__} answers have no numbers that can be compared"
    return guess.deleted


def _rounded(params: Any) -> dict[str, Array]:
    return {key: value.astype(np.float32) for key, value in params.items()}
