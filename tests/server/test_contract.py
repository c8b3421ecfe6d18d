"""What every unlearning method must be and do: the suite that plug-ins' tests call, over all built-in methods."""

from pathlib import Path
from typing import Any

import pytest

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.scenario.registry import method_class
from palimpsest.simulator.testing import unlearners
from tests.support.short import UNLEARNERS as SHORT

PAIRS = [(name, algorithm, level) for name in CARDS for algorithm, level in unlearners.pairs(name)]


@pytest.mark.parametrize("name", CARDS)
def test_the_class_carries_the_card_of_its_name(name: str) -> None:
    cls = method_class("unlearning", name)
    made: Any = cls()
    assert made.method == name
    assert made.card is CARDS[name]


@pytest.mark.parametrize("name", CARDS)
def test_it_is_a_frozen_configuration_that_states_its_guarantee(name: str) -> None:
    unlearners.check_configuration(name)


@pytest.mark.parametrize(("name", "algorithm", "level"), PAIRS)
def test_it_completes_every_request_at_every_level_it_supports(
    tmp_path: Path, name: str, algorithm: str, level: str
) -> None:
    unlearners.check_completion(name, algorithm, level, tmp_path, **SHORT.get(name, {}))


@pytest.mark.parametrize("name", CARDS)
def test_a_branch_alone_and_beside_others_has_the_same_bits(tmp_path: Path, name: str) -> None:
    unlearners.check_branches(name, tmp_path, **SHORT.get(name, {}))


@pytest.mark.parametrize("name", CARDS)
def test_everybody_may_leave(tmp_path: Path, name: str) -> None:
    unlearners.check_everybody(name, tmp_path, **SHORT.get(name, {}))


@pytest.mark.parametrize("name", [name for name in CARDS if unlearners.has_chains(name)])
def test_requests_in_a_chain_each_act_on_the_last_model(tmp_path: Path, name: str) -> None:
    unlearners.check_chain(name, tmp_path, **SHORT.get(name, {}))


@pytest.mark.parametrize(("name", "algorithm", "level"), [p for p in PAIRS if CARDS[p[0]].promises == "exact"])
def test_what_an_exact_method_releases_does_not_depend_on_what_was_deleted(
    tmp_path: Path, name: str, algorithm: str, level: str
) -> None:
    unlearners.check_counterfactual(name, algorithm, level, tmp_path)


def test_a_method_that_breaks_the_contract_is_told_what_it_breaks(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"ascent: released models differ by .* where only deleted records differ"):
        unlearners.check_counterfactual("ascent", "fedavg", "record", tmp_path)
