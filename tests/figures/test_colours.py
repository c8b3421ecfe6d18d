"""Colours of defenses and kinds of methods can be told apart by those who see fewer of them, and read on white."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest

from palimpsest.defenses import CARDS
from palimpsest.simulator.figures.style import INK, defense_colour

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SEEN_AS: Mapping[str, list[list[float]]] = {
    "everybody": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def linear(colour: str) -> np.ndarray:
    """``[3]`` linear RGB of ``#RRGGBB``."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """``[3]`` CIE L*a*b*."""
    ratio = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("who", SEEN_AS)
def test_no_two_defenses_look_alike(who: str) -> None:
    matrix = np.array(SEEN_AS[who])
    seen = {kind: lab(matrix @ linear(defense_colour(kind))) for kind in CARDS}
    apart = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(seen, 2)}
    closest = min(apart, key=lambda pair: apart[pair])
    assert apart[closest] >= 10.0, (who, closest, apart[closest])


@pytest.mark.parametrize("kind", CARDS)
def test_a_defense_can_be_read_on_white(kind: str) -> None:
    """WCAG's contrast for large text and graphics is 3."""
    luminance = float(TO_XYZ[1] @ linear(defense_colour(kind)))
    assert 1.05 / (luminance + 0.05) >= 3.0


def test_no_defense_is_ink_and_a_stranger_has_a_colour_of_its_own() -> None:
    assert defense_colour("none") == INK
    assert defense_colour("somebody-elses") == defense_colour("somebody-elses") != INK
