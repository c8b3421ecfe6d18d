"""Cautions read any defense, another package's too, and the data of the run itself."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from palimpsest.simulator.planning.cautions import of_magnitudes, of_plan
from palimpsest.simulator.planning.plan import Plan, plan
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.data.build import population_directory
from palimpsest.simulator.world.protocols.defense import Defense
from tests.support.scenarios import small_scenario


class Foreign(Defense):
    """As another package may write it: what it clips by and how much noise it adds may be anything.

    Guarantee: none.
    """

    card: ClassVar[Card] = Card(summary="a defense of somebody else's", places=("release",))
    kind: Literal["foreign"] = "foreign"
    clip: Any = None
    noise_multiplier: Any = None
    sigma: Any = None


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"clip": "median", "noise_multiplier": 1.0}, []),
        ({"clip": 1.0, "noise_multiplier": (0.5, 1.0)}, []),
        ({"clip": True, "sigma": [1e9]}, []),
        ({"clip": 1e-12, "noise_multiplier": "auto"}, ["clip = 1e-12 under 'foreign'"]),
        ({"clip": 1000, "noise_multiplier": 100_000}, ["noise of deviation 1e+08 under 'foreign'"]),
        ({"sigma": 10**9}, ["noise of deviation 1e+09 under 'foreign'"]),
    ],
)
def test_what_is_no_number_is_passed_over(numbers: Mapping[str, Any], said: list[str]) -> None:
    outline = plan(small_scenario())
    prefixes = [
        replace(prefix, arms=tuple(replace(arm, defense=Foreign(**numbers)) for arm in prefix.arms))
        for prefix in outline.prefixes
    ]
    lines = of_magnitudes(Plan(tuple(prefixes)), [6])
    assert len(lines) == len(said)
    assert all(line.startswith(f"warning   {begins}") for line, begins in zip(lines, said, strict=True))


def test_the_data_are_those_of_the_runs_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data drawn without the secret are another population, which the run neither needs nor may leave behind."""
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path))
    scenario = small_scenario().under("a secret of the run")
    outline = plan(scenario)
    of_plan(outline, scenario.privacy)
    root = tmp_path / "populations"
    [prefix] = outline.prefixes
    assert [path for path in root.iterdir() if path.is_dir()] == [
        population_directory(prefix.setting.data, prefix.entropy, root)
    ]
