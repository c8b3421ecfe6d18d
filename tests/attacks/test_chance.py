"""Where models and messages are noise, every attack is at chance, whatever it reads and whoever it is."""

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from palimpsest.attacks import CARDS
from palimpsest.attacks.divergence import Reads
from palimpsest.attacks.session import attack_transcript
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.testing.attacks import made_of
from palimpsest.simulator.world.models.kinds import suits
from tests.support.short import ATTACKS as SHORT
from tests.support.signal_free import MODELS, TIERS, Deletions, by_luck, served, silenced

SHORTER = SHORT | {
    "sequence": {"components": 3, "exchanges": 0, "refinements": 1, "iterations": 2},
    "unmix": {"components": 8, "exchanges": 1, "refinements": 1, "iterations": 5},
}
RARE = 0.0005
"""By luck alone; there are some two hundred tests with one noise, which is always the same."""


def readings(name: str) -> list[str]:
    """What an attack lets one choose to read; empty text where there is nothing to choose."""
    fields = type(made_of(name)).model_fields
    return [way for way in get_args(Reads) if way != "auto"] if "reads" in fields else [""]


def hears(name: str, tier: str) -> bool:
    """Whether an attack finds what it needs at a tier."""
    needs = CARDS[name].needs
    return tier in {"updates": ("updates",), "messages": ("updates", "aggregate")}.get(
        next((need for need in ("updates", "messages") if need in needs), ""), TIERS
    )


PLACES = [
    (name, model, reads, tier)
    for name in CARDS
    for model in [next(kind for kind in MODELS if suits(CARDS[name], kind))]
    for reads in readings(name)
    for tier in TIERS
    if hears(name, tier)
]


@pytest.fixture(scope="session")
def loud(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Deletions]:
    return served(tmp_path_factory.mktemp("loud"))


@pytest.fixture(scope="session")
def silent(
    loud: dict[tuple[str, str], Deletions], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Deletions]:
    place = tmp_path_factory.mktemp("silent")
    found = {}
    for seed, ((model, tier), one) in enumerate(loud.items()):
        directory = Path(shutil.copytree(one.transcript, place / model / tier))
        found[model, tier] = silenced(Deletions(directory, one.x, one.y), seed)
    return found


def luck_of(name: str, one: Deletions, **settings: Any) -> float:
    with one_thread():
        answers = attack_transcript(one.transcript, [made_of(name, **SHORTER.get(name, {}), **settings)])
    return by_luck(answers[name].guesses, one)


@pytest.mark.parametrize(("name", "model", "reads", "tier"), PLACES)
def test_noise_tells_nothing(
    silent: dict[tuple[str, str], Deletions], name: str, model: str, reads: str, tier: str
) -> None:
    assert luck_of(name, silent[model, tier], **({"reads": reads} if reads else {})) > RARE


@pytest.mark.parametrize("name", ["hrec", "class-score", "candidate-match", "client-profile"])
def test_the_same_transcripts_with_their_signal_tell_something(
    loud: dict[tuple[str, str], Deletions], name: str
) -> None:
    """One of each kind of answer: what is measured here would show a leak."""
    assert luck_of(name, loud["softmax", "releases"]) < RARE


def test_the_server_hears_something_in_messages_with_a_signal(loud: dict[tuple[str, str], Deletions]) -> None:
    assert luck_of("fuia", loud["mlp", "updates"]) < 20 * RARE


def test_every_attack_reading_and_tier_is_tried() -> None:
    assert {name for name, *_ in PLACES} == set(CARDS)
    assert {reads for _, _, reads, _ in PLACES} == {"", "pair", "first", "all"}
    assert {tier for *_, tier in PLACES} == set(TIERS)
