"""A Ray of this process's own: nobody else on this machine can call it, and nobody from outside can reach it.

The internals of Ray that this takes stand here alone.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, utils, worker
from ray._private.node import Node
from ray._raylet import (  # type: ignore[attr-defined]  # compiled, without types
    AuthenticationMode,
    AuthenticationTokenLoader,
    get_authentication_mode,
)

from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.signals import kept

_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Where it is 0, Ray takes this machine's address to be 127.0.0.1, and its servers listen there and nowhere else."""
_MODE, _TOKEN, _PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_NEEDLESS = ("start_monitor", "start_api_server", "start_log_monitor")
"""Methods of Ray's ``Node`` that start a daemon: to ask for more machines, to serve a dashboard, to show what hosts
say. None of them has anything to do here; each loads Ray, and Ray waits until the second has."""
_SHORT, _SPARE = "/tmp", 24
"""Paths of sockets have 107 characters at most, of which Ray takes 64."""


class AuthenticationError(RunFailure):
    """Ray would take calls from anybody."""


@contextmanager
def closed_to_others() -> Iterator[str]:
    """Start Ray within: on loopback, with a token of its own in a file that its user alone can read.

    Yields:
        Path of a directory for Ray's sockets and logs, which its user alone can reach; gone at the end.
    """
    loopback = ray_constants.ENABLE_RAY_CLUSTER
    root = _SHORT if len(tempfile.gettempdir()) > len(_SHORT) + _SPARE else None
    with tempfile.TemporaryDirectory(prefix="ray-", dir=root, ignore_cleanup_errors=True) as place:
        file = Path(place) / "token"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as token:
            token.write(secrets.token_hex(32))
        # Without a mode Ray chooses tokens for whom it starts itself, and looks for the mode anew.
        try:
            with (
                _quiet(),
                _with_few_daemons(),
                _environment({_PATH: str(file), _CLUSTERS: "0", _MODE: None, _TOKEN: None}),
            ):
                ray_constants.ENABLE_RAY_CLUSTER = False
                AuthenticationTokenLoader.instance().reset_cache()
                yield str(Path(place) / "r")  # Ray opens it to everybody, and the one around it stays closed
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = loopback
            AuthenticationTokenLoader.instance().reset_cache()  # after a failure too: Ray keeps the token in memory


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray's daemons have to say off the terminal: pages of their logs where one of them dies.

    What a run needs to know of it is raised where it waits for them.
    """
    printing = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, ignore_prefix: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


@contextmanager
def _with_few_daemons() -> Iterator[None]:
    """Keep Ray from starting what nobody here has a use for: 1.4 s of processor time, and a second of waiting.

    To know whether a dashboard could be served it would load here what that takes, 0.2 s.
    """
    replaced = {(Node, name): _nothing for name in _NEEDLESS} | {
        (utils, "get_dashboard_dependency_error"): _no_dashboard
    }
    kept = {place: getattr(*place) for place in replaced}
    try:
        for (where, name), function in replaced.items():
            setattr(where, name, function)
        yield
    finally:
        for (where, name), function in kept.items():
            setattr(where, name, function)


def _nothing(*given: Any, **named: Any) -> None:
    pass


def _no_dashboard() -> ImportError:
    return ImportError("nobody looks at a dashboard")


def check_authentication() -> None:
    """Refuse a Ray that has started without asking for the token.

    Raises:
        AuthenticationError: it does not ask.
    """
    if get_authentication_mode() != AuthenticationMode.TOKEN:
        raise AuthenticationError(
            "Ray started without authentication, so that whoever reaches its ports can run code as this user: install "
            "the version of Ray that constraints.txt names, or take runtime.backend = 'serial'"
        )


def shut_down() -> None:
    """End Ray, or leave the cluster that was joined.

    Ray sets SIGTERM to what ends a process without a word, and then takes a while to end its daemons: until then the
    handlers of this process are in place again.
    """
    with kept() as set_again:
        node: Any = worker._global_node
        if node is not None:
            end_daemons = node.kill_all_processes

            def end(*given: Any, **named: Any) -> None:
                set_again()
                end_daemons(*given, **named)

            node.kill_all_processes = end
        ray.shutdown()


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables (None: remove them) for a while."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
