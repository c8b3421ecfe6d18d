"""The Ray that hosts run on: one of this machine's own, or a cluster that runs already and may lose machines."""

import logging
import math
import os
import signal
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import ray
import torch
from ray.exceptions import ActorUnschedulableError, OutOfMemoryError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from palimpsest.simulator.federation import daemons
from palimpsest.simulator.federation.guardian import Guardian
from palimpsest.simulator.federation.own_ray import check_authentication, closed_to_others, shut_down
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.runtime import RuntimeConfig
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.signals import kept

PATIENCE = 180.0
"""Seconds that hosts have to find a place on a cluster that others may be using, and to start, which loads PyTorch."""

ANSWER = 5.0
"""Seconds that a cluster has to take a connection; Ray itself would try for 40, and then end the process."""

_FOR_EVER = 10**6
"""Seconds that Ray goes on when a daemon is gone, instead of ending this process: ``daemons`` looks after them."""

INLINE_BYTES = 2**20
"""Messages and answers of up to so many bytes go straight from process to process: through Ray's object store, which is
for what several processes read, each costs a millisecond of a round."""

DEATHS = (RayActorError, ActorUnschedulableError, OutOfMemoryError)
"""What Ray raises where a host is gone, or the machine that it was meant for. Where memory is full it ends hosts."""


class ClusterError(RunFailure):
    """A Ray cluster cannot be joined, or has no place for a host."""


@contextmanager
def ray_session(hosts: int, address: str = "") -> Iterator[None]:
    """Join the Ray cluster at ``address``, or start one on this machine for as long as the context lasts.

    Args:
        hosts: that a cluster of this machine's own has CPUs for.
        address: host:port of a running one; empty: none.

    Raises:
        ClusterError: nothing answers there, or it runs other versions.
    """
    with _joined(address) if address else _started(hosts):
        yield


@contextmanager
def _joined(address: str) -> Iterator[None]:
    try:
        _join(address)
        with daemons.watching(daemons.remote(address)):
            yield
    finally:
        shut_down()


@contextmanager
def _started(hosts: int) -> Iterator[None]:
    """A Ray of this process's own."""
    with closed_to_others() as place, Guardian() as guardian:
        before = daemons.ids()
        try:
            _start(hosts, place, before)
            with daemons.watching(daemons.local(before, guardian)):
                yield
        finally:
            shut_down()


def _start(hosts: int, place: str, before: Collection[int]) -> None:
    """Start Ray; once more where its daemons take longer than the 30 s that it gives them, as on a busy machine."""
    for last in (False, True):
        try:
            with daemons.none_left(before):
                _initialise(hosts, place)
                check_authentication()
            return
        except RunFailure:
            raise
        except Exception as error:  # Ray raises bare ones
            shut_down()
            if last:
                said = " ".join(str(error).split())
                raise ClusterError(
                    f"Ray could not be started on this machine ({said}): where others keep it busy, try again when "
                    f"they have finished, or take runtime.backend = 'serial'"
                ) from error


def _initialise(hosts: int, place: str) -> None:
    with kept(ending=(1, signal.SIGTERM)):
        ray.init(
            address="local",  # or else it would join whatever cluster it finds on this machine
            num_cpus=hosts,
            include_dashboard=False,
            object_store_memory=2**28,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=place,
            _system_config={
                "gcs_rpc_server_reconnect_timeout_s": _FOR_EVER,
                "max_direct_call_object_size": INLINE_BYTES,
            },
        )


def check_hosts(runtime: RuntimeConfig) -> None:
    """Refuse hosts that there cannot be, before anything is written or started.

    Raises:
        ScenarioError: this machine has no GPU, or nothing answers where a cluster should be.
    """
    if runtime.ray_address and runtime.backend == "ray":
        if silent := _silence(runtime.ray_address):
            raise ScenarioError(silent)
    elif runtime.device == "cuda" and not torch.cuda.is_available():
        raise ScenarioError(
            "runtime.device = 'cuda', and PyTorch finds no GPU on this machine: take 'auto' or 'cpu', or another one"
        )


def _silence(address: str) -> str:
    """What is wrong with the address of a cluster, in a sentence; empty: something answers there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except OSError as error:
        return (
            f"nothing answers at runtime.ray_address = {address!r} ({error.strerror or error}): start a cluster there "
            f"(ray start --head), or leave ray_address out"
        )
    return ""


def _join(address: str) -> None:
    if silent := _silence(address):
        raise ClusterError(silent)
    try:
        with kept(ending=(signal.SIGTERM,)):
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, SystemExit) as error:  # Ray ends the process where it is no Ray that answers
        said = " ".join(str(error).split())
        raise ClusterError(f"the Ray cluster at runtime.ray_address = {address!r} cannot be joined: {said}") from None


def hosts_for(wanted: int | Literal["auto"], address: str = "") -> int:
    """How many hosts: what the scenario says, or one a CPU, of this machine or of the cluster that was joined.

    Raises:
        ClusterError: the cluster has fewer CPUs, so that some hosts would wait for ever.
    """
    if not address:
        return (os.cpu_count() or 1) if wanted == "auto" else wanted
    cpus = _whole("CPU")
    if wanted == "auto" and cpus:
        return cpus
    if wanted == "auto" or wanted > cpus:
        raise ClusterError(
            f"runtime.hosts = {wanted!r} takes a CPU each, and the Ray cluster at {address} has {cpus}: give fewer, or "
            f"add machines (ray start --address {address})"
        )
    return wanted


def gpu_share(hosts: int) -> float:
    """GPUs of each host, so that all find a place: one divided by as many as have to share it; 0 where Ray has none."""
    gpus = _whole("GPU")
    return math.floor(10_000 / math.ceil(hosts / gpus)) / 10_000 if gpus else 0.0


def _whole(resource: str) -> int:
    """How many of them all machines of the cluster have."""
    return int(ray.cluster_resources().get(resource, 0))  # type: ignore[no-untyped-call]


def await_hosts(actors: Sequence[Any]) -> None:
    """Wait until all have started.

    Raises:
        ClusterError: some found no place within ``PATIENCE``, or could not start.
    """
    started = [actor.__ray_ready__.remote() for actor in actors]
    ready = daemons.ready(started, len(started), PATIENCE)
    late = len(started) - len(ready)
    try:
        for answer in ready:
            daemons.got(answer)
    except DEATHS as error:
        reason = str(error).strip().splitlines()[-1]
        raise ClusterError(f"a host could not start on the Ray cluster: {reason}") from None
    if late:
        raise ClusterError(
            f"{late} of {len(actors)} hosts did not start on the Ray cluster within {PATIENCE:.0f} s: where "
            f"others keep its CPUs or GPUs busy, give fewer runtime.hosts, or go on when they have finished"
        )


def refuge(turn: int) -> NodeAffinitySchedulingStrategy:
    """A machine for a host that has lost its own, beside those that it serves already: they take turns.

    The host asks for no CPU: where all are taken, it would wait for ever.

    Raises:
        ClusterError: no machine with a CPU is left.
    """
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    left = sorted(node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("CPU"))
    if not left:
        raise ClusterError("a host was lost, and no machine with a CPU is left in the Ray cluster: add one")
    return NodeAffinitySchedulingStrategy(left[turn % len(left)], soft=False)
