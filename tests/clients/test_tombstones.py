"""Deleted records are not read again."""

import pytest

from palimpsest.clients.tombstones import Refusal, Tombstones


def test_deleted_records_are_refused_on_their_branch_only() -> None:
    tombstones = Tombstones()
    tombstones.bury("arm", 1, {5: (2, 3)})
    tombstones.check("arm", 1, [5], {5: (1, 2, 3)}, of="retained")
    tombstones.check("arm", 2, [5], {}, of="retained")
    tombstones.check("other", 1, [5], {}, of="retained")
    tombstones.check("arm", 1, [4], {}, of="retained")
    with pytest.raises(Refusal, match=r"client 5 has deleted its records \[3\] on branch 1 of arm"):
        tombstones.check("arm", 1, [4, 5], {5: (2,)}, of="retained")
    with pytest.raises(Refusal):
        tombstones.check("arm", 1, [5], {5: (2, 9)}, of="forgotten")


def test_tombstones_survive_where_they_are_kept() -> None:
    kept: dict[str, str] = {}
    tombstones = Tombstones(kept)
    tombstones.bury("arm", 1, {5: (2, 3)})
    tombstones.bury("arm", 1, {5: (4,)})
    again = Tombstones(dict(kept))
    again.check("arm", 1, [5], {5: (2, 3, 4)}, of="retained")
    with pytest.raises(Refusal):
        again.check("arm", 1, [5], {5: (2, 3)}, of="retained")


def test_a_new_consent_lifts_them() -> None:
    tombstones = Tombstones()
    tombstones.bury("arm", 1, {5: (2, 3), 6: (0,)})
    tombstones.lift("arm", 1, {5: (2,)})
    tombstones.lift("arm", 2, {6: (0,)})
    tombstones.check("arm", 1, [5], {5: (3,)}, of="retained")
    for client in (5, 6):
        with pytest.raises(Refusal):
            tombstones.check("arm", 1, [client], {}, of="retained")
