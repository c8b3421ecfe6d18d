"""Flower grids inside this process: ``RayGrid``, a pool of Ray actors, and its serial twin.

Flower's stock simulation polls its in-memory link and restarts Ray at the end of every run. These grids hand Flower
messages to Flower ClientApps directly, and otherwise behave as any ``Grid``. ``Grid`` itself is given on
to other rooms, which import nothing of Flower.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from flwr.serverapp import Grid

from palimpsest.simulator.federation.cluster import gpu_share, hosts_for, ray_session
from palimpsest.simulator.federation.local_grid import LocalGrid, SerialGrid
from palimpsest.simulator.federation.ray_grid import RayGrid

__all__ = ["Grid", "LocalGrid", "RayGrid", "SerialGrid", "open_grid"]


@contextmanager
def open_grid(backend: str, hosts: int | Literal["auto"], address: str = "", gpus: bool = False) -> Iterator[LocalGrid]:
    """Open a grid of so many hosts, ``ray`` or ``serial``; see ``cluster.hosts_for``.

    Args:
        backend, hosts, address: as under ``[runtime]`` of a scenario.
        gpus: whether hosts share those that Ray has.

    Raises:
        ClusterError: the Ray cluster at ``address`` cannot be joined, or has no place for the hosts.
    """
    if backend == "serial":
        yield SerialGrid(hosts_for(hosts))
        return
    with ray_session(hosts_for(hosts), address):
        count = hosts_for(hosts, address)
        grid = RayGrid(count, gpu_share(count) if gpus else 0.0, here=not address)
        try:
            if address:
                grid.await_hosts()
            yield grid
        finally:
            grid.close()
