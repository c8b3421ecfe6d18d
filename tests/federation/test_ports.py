"""What listens while a run goes on: on loopback alone, and nothing without the run's token."""

import contextlib
import http.client
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from grpc import StatusCode

from palimpsest.simulator.federation.grids import open_grid

pytestmark = [pytest.mark.ray, pytest.mark.slow]

METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "InternalKVGcsService/InternalKVKeys",
    "JobInfoGcsService/GetAllJobInfo",
    "ActorInfoGcsService/GetAllActorInfo",
    "NodeManagerService/GetNodeStats",
    "NodeManagerService/RequestWorkerLease",
    "ObjectManagerService/Pull",
    "CoreWorkerService/PushTask",
    "CoreWorkerService/GetCoreWorkerStats",
    "RuntimeEnvGcsService/PinRuntimeEnvURI",
)
PAGES = ("/", "/api/version", "/api/jobs/", "/get_or_create_runtime_env", "/metrics")


@dataclass(frozen=True)
class Listening:
    """While a run has its hosts.

    Attributes:
        ports: address and port of every socket that one of its processes listens at.
        scripts: names of the scripts that its processes run.
        token: what opens them.
        file: where the token lies.
        mode: permissions of that file, and of the directory around it.
    """

    ports: frozenset[tuple[str, int]]
    scripts: frozenset[str]
    token: str
    file: Path
    mode: tuple[int, int]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home directory without Ray's token, for a user who has turned authentication off."""
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(place))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield place


@pytest.fixture(scope="module")
def listening(home: Path) -> Iterator[Listening]:
    """Two hosts on Ray."""
    with open_grid("ray", 2) as grid:
        grid.await_hosts()
        ports, scripts = set[tuple[str, int]](), set[str]()
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, and nobody has asked how
                listens = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
                ports |= {(one.laddr.ip, one.laddr.port) for one in listens}
                scripts |= {Path(part).name for part in process.cmdline() if part.endswith(".py")}
        file = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        mode = stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)
        yield Listening(frozenset(ports), frozenset(scripts), file.read_text(), file, mode)
    assert not file.parent.exists()


def test_every_port_is_on_loopback(listening: Listening) -> None:
    assert len(listening.ports) >= 4
    assert {address.removeprefix("::ffff:") for address, _ in listening.ports} == {"127.0.0.1"}


def test_ray_starts_nothing_that_hosts_can_do_without(listening: Listening) -> None:
    """No autoscaler, no dashboard, nobody who reads logs."""
    assert not listening.scripts & {"monitor.py", "dashboard.py", "log_monitor.py"}


def test_without_the_token_no_port_answers(listening: Listening) -> None:
    answered = {port: _calls(port, "") for _, port in listening.ports}
    heard = {status for calls in answered.values() for status in calls.values()}
    assert StatusCode.OK not in heard, answered
    assert StatusCode.UNAUTHENTICATED in heard
    with_token = {port: _calls(port, listening.token) for _, port in listening.ports}
    assert StatusCode.OK in {status for calls in with_token.values() for status in calls.values()}


def test_without_the_token_no_page_is_served(listening: Listening) -> None:
    for _, port in listening.ports:
        for page in PAGES:
            for method in ("GET", "POST"):
                assert _page(port, method, page) not in range(200, 400), (port, method, page)


def test_the_token_is_this_users_alone_and_nothing_is_left_at_home(home: Path, listening: Listening) -> None:
    assert listening.mode == (0o600, 0o700)
    assert len(listening.token) == 64
    assert list(home.iterdir()) == []


def _calls(port: int, token: str) -> dict[str, StatusCode]:
    """How each method ends, called at a port."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    ended = {}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in METHODS:
            call = channel.unary_unary(f"/ray.rpc.{method}")
            try:
                call(b"", timeout=2.0, metadata=metadata)
                ended[method] = StatusCode.OK
            except grpc.RpcError as error:
                ended[method] = error.code()  # type: ignore[attr-defined]
            if ended[method] in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
                break  # it speaks something else
    return ended


def _page(port: int, method: str, page: str) -> int:
    """Status of a page; 0 where no HTTP is spoken."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request(method, page, body=b"" if method == "POST" else None)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
