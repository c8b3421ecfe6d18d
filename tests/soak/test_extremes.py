"""Scenarios with one absurd number each; a hundred times as many with ``PALIMPSEST_SOAK=1``."""

import os

from tests.soak.extremes import cases, tried

LONG = os.environ.get("PALIMPSEST_SOAK") == "1"


def test_absurd_numbers_end_with_figures_or_in_a_sentence() -> None:
    assert len(cases()) > 300
    counts, wrong = tried(0 if LONG else 6)
    assert wrong == []
    assert counts.total() > 5
