"""Files that all models of one architecture share: they can be read by all users of a cache, or are not there."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from palimpsest.simulator.testing.transcripts import digits
from palimpsest.simulator.tracking.templates import template
from palimpsest.simulator.world.models.model import model_of

pytestmark = pytest.mark.mlflow


def test_other_users_of_a_shared_cache_can_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path))
    spec = digits(private=20, public=20).spec("softmax", 0.1)
    before = os.umask(0o022)
    try:
        kept = template(spec, model_of(spec).init(np.random.default_rng(0)))
    finally:
        os.umask(before)
    for place in (kept, *kept.rglob("*")):
        wanted = 0o755 if place.is_dir() else 0o644
        assert stat.S_IMODE(place.stat().st_mode) == wanted, place
    assert list(kept.parent.iterdir()) == [kept]


def test_weights_that_cannot_be_written_leave_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path))
    spec = digits(private=20, public=20).spec("softmax", 0.1)
    with pytest.raises(Exception, match="str"):
        template(spec, {"weight": np.array(["no number"])})
    assert list((tmp_path / "mlflow-models").iterdir()) == []
