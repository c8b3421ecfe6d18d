"""Cases that are attacked together."""

from collections.abc import Iterator, Sequence

from palimpsest.simulator.world.records import Case, same_model


def alike(cases: Sequence[Case], most: int) -> Iterator[list[Case]]:
    """Cases with as many deleted records and the same model before, at most so many at once."""
    groups: list[list[Case]] = []
    for case in sorted(cases, key=lambda candidate: candidate.index):
        for group in groups:
            if len(group) < most and group[0].size == case.size and same_model(group[0].before, case.before):
                group.append(case)
                break
        else:
            groups.append([case])
    yield from groups
