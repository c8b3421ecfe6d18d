"""Twenty-four scenarios drawn from the schema, two of them run; 1,000 and 50 where ``PALIMPSEST_SOAK=1``."""

import os

from tests.soak.fuzz import COUNT, RUNS, fuzz

LONG = os.environ.get("PALIMPSEST_SOAK") == "1"


def test_every_scenario_is_refused_in_a_sentence_or_planned_and_run() -> None:
    ended, wrong = fuzz(COUNT, RUNS) if LONG else fuzz(24, 2)
    assert wrong == []
    assert ended["refused"] > 3
    assert ended["planned"] > 3
