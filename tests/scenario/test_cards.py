"""A method's facts stand on its card; what another package's class does not say there is refused in one sentence."""

from pathlib import Path

import pytest

from palimpsest.attacks import CARDS
from palimpsest.attacks.probing import Probing
from palimpsest.attacks.session import access_of
from palimpsest.server.unlearning.downdate import Downdate
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.server.unlearning.rollback import Rollback
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.registry import card, method_class, names
from palimpsest.simulator.world.cards import Card

WITHOUT = "class Method(Defense):\n    kind: Literal['silent'] = 'silent'\n"
NO_CARD = WITHOUT + "    card: ClassVar = {'places': ('release',)}\n"
A_WORD = WITHOUT + "    card: ClassVar[Card] = Card(summary='x', models='ridge')\n"
NO_PLACE = WITHOUT + "    card: ClassVar[Card] = Card(summary='x', places=('releases',))\n"


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        (
            "without_card",
            WITHOUT,
            r"'silent' \(without_card:Method\) carries no card: .*`card: ClassVar\[Card\] = Card\(",
        ),
        ("other_card", NO_CARD, r"'silent' \(other_card:Method\) carries no card"),
        ("word_card", A_WORD, r"its card's models = 'ridge': Input should be a valid tuple"),
        ("no_place_card", NO_PLACE, r"its card's places\.0 = 'releases': .*'release'"),
    ],
)
def test_another_packages_class_without_a_readable_card_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str, said: str
) -> None:
    about = tmp_path / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[palimpsest.defenses]\nsilent = {module}:Method\n")
    (tmp_path / f"{module}.py").write_text(
        "from typing import ClassVar, Literal\n"
        "from palimpsest.simulator.world.cards import Card\n"
        f"from palimpsest.simulator.world.protocols.defense import Defense\n{text}"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "silent" in names("defense")
    for ask in (card, method_class):
        with pytest.raises(ScenarioError, match=said):
            ask("defense", "silent")


def test_whether_an_exact_method_stays_exact_may_depend_on_a_hyper_parameter() -> None:
    methods = [Retrain(), Retrain(coupling="same-order"), Downdate(), Rollback()]
    assert [method.card.stays_exact(method) for method in methods] == [True, False, True, False]


def test_an_attack_that_asks_must_say_what_its_questions_are_answered_with() -> None:
    class Vague(Probing):
        card = Card(summary="asks for something", promises="labels")

    assert access_of(Probing()) == CARDS["probing"].access == "scores"
    with pytest.raises(ValueError, match=r"attack probing asks the models.*scores, top-1, label"):
        access_of(Vague())
