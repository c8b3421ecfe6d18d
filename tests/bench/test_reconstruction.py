"""The race of attacks compares answers to the same deletions. No timed assertions."""

from palimpsest.attacks.inversion import Inversion
from palimpsest.simulator.bench.reconstruction import race, race_table


def test_every_contestant_answers_the_same_deletions() -> None:
    lines = race(3, published=1, steps=4, epochs=1, ours=Inversion(iterations=8, restarts=1, polish=0))
    assert [(line.attack, line.contestant, line.records) for line in lines] == [
        ("hrec", "all at once", 3),
        ("hrec", "one by one", 3),
        ("inversion", "all at once", 3),
        ("inversion", "published defaults", 1),
    ]
    together, apart = lines[:2]
    assert abs(together.cosine - apart.cosine) < 1e-9
    assert together.labels == apart.labels
    assert race_table(lines).row_count == 4
