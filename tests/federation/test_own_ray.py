"""What Ray keeps of a run in this process, once the run is over."""

from pathlib import Path

import pytest
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # compiled, without types

from palimpsest.simulator.federation.own_ray import closed_to_others


@pytest.mark.parametrize("fails", [False, True])
def test_a_later_cluster_gets_the_users_token_and_not_that_of_a_finished_run(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "token"
    users.write_text("u" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(users))
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    try:
        with closed_to_others() as place:
            assert loader.get_raw_token(ignore_auth_mode=True) == (Path(place).parent / "token").read_text()
            if fails:
                raise ConnectionError
    except ConnectionError:
        assert fails
    assert loader.get_raw_token(ignore_auth_mode=True) == "u" * 64
    loader.reset_cache()
