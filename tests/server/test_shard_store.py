"""The store of shards' models: on disk for a first training, changed in memory for a chain."""

from pathlib import Path

import numpy as np
import pytest

from palimpsest.server.shard_store import ShardStore
from palimpsest.simulator.world.records import Params


def _model(value: float) -> Params:
    return {"weight": np.full((2, 3), value), "bias": np.full(2, -value)}


def _store(directory: Path | None, rounds: int = 3) -> ShardStore:
    store = ShardStore(directory)
    for round in range(rounds):
        store.append([_model(round), _model(10 + round)])
    return store


@pytest.mark.parametrize("on_disk", [True, False])
def test_models_come_back_by_round_and_shard(tmp_path: Path, on_disk: bool) -> None:
    store = _store(tmp_path / "shards" if on_disk else None)
    for round in range(3):
        for shard, value in enumerate((round, 10 + round)):
            model = store.models(round, like=_model(0.0))[shard]
            assert all(np.array_equal(model[name], array) for name, array in _model(value).items())
    assert np.array_equal(store.models(-1, like=_model(0.0))[1]["bias"], _model(12)["bias"])


def test_a_copy_is_changed_and_cut_without_a_change_to_the_store(tmp_path: Path) -> None:
    store = _store(tmp_path / "shards")
    files = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    copy = store.copy(2)
    copy.replace(1, 0, _model(7.0))
    copy.append([_model(5.0), _model(6.0)])
    copy.cut(2)
    assert (len(copy), len(store)) == (2, 3)
    assert copy.models(1, like=_model(0.0))[0]["weight"][0, 0] == 7.0
    assert copy.models(1, like=_model(0.0))[1]["weight"][0, 0] == 11.0
    assert store.models(1, like=_model(0.0))[0]["weight"][0, 0] == 1.0
    assert {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()} == files


def test_its_size_is_that_of_its_files_and_arrays(tmp_path: Path) -> None:
    store = _store(tmp_path / "shards")
    assert store.bytes == sum(path.stat().st_size for path in (tmp_path / "shards").iterdir())
    assert _store(None).bytes == 3 * 2 * 8 * 8
