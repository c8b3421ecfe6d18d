"""The contract suites: what every plug-in must do, for its author's own tests.

A plug-in that is installed, so that its entry point announces it, is checked in one line each::

    from palimpsest.simulator.testing import check_attack, check_model, check_unlearner

    def test_my_method_keeps_the_contract(tmp_path):
        check_unlearner("my-method", tmp_path)

A broken contract is an ``AssertionError`` that says in one sentence what is missing. The same checks run over the
built-in plug-ins in this project's tests. ``servers`` and ``transcripts`` hold the small servers and the transcripts
that the checks work on, for tests of one's own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palimpsest.simulator.testing.answers import check_answer
    from palimpsest.simulator.testing.attacks import check_attack
    from palimpsest.simulator.testing.chance import check_chance
    from palimpsest.simulator.testing.defenses import check_defense
    from palimpsest.simulator.testing.measures import check_measure
    from palimpsest.simulator.testing.models import check_model
    from palimpsest.simulator.testing.runs import check_figure, check_unlearning_distance, check_unlearning_measure
    from palimpsest.simulator.testing.sources import check_source
    from palimpsest.simulator.testing.strategies import check_strategy
    from palimpsest.simulator.testing.unlearners import check_unlearner

__all__ = [
    "check_answer",
    "check_attack",
    "check_chance",
    "check_defense",
    "check_figure",
    "check_measure",
    "check_model",
    "check_source",
    "check_strategy",
    "check_unlearner",
    "check_unlearning_distance",
    "check_unlearning_measure",
]

_HOMES = {
    "check_answer": "answers",
    "check_attack": "attacks",
    "check_chance": "chance",
    "check_defense": "defenses",
    "check_figure": "runs",
    "check_measure": "measures",
    "check_model": "models",
    "check_source": "sources",
    "check_strategy": "strategies",
    "check_unlearner": "unlearners",
    "check_unlearning_distance": "runs",
    "check_unlearning_measure": "runs",
}
"""The module of each: loaded where it is first used, since what whole runs need takes a while to load."""


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
