"""Hosts as Ray actors."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import ray
from flwr.app import Message
from ray.exceptions import ObjectLostError, RayTaskError

from palimpsest.simulator.federation import daemons
from palimpsest.simulator.federation.cluster import DEATHS, ClusterError, await_hosts, refuge
from palimpsest.simulator.federation.local_grid import LocalGrid, _error
from palimpsest.simulator.federation.ray_host import RayHost
from palimpsest.simulator.world.models.given import carried

STATEFUL = "query.tombstone"
"""Messages that change what a host remembers: a restarted host hears them again."""


MAX_DEATHS = 3
"""How many hosts may die over one message before it is the message that is at fault."""


Piece = TypeVar("Piece")


Done = TypeVar("Done")


# Ray itself must not restart a dead host: the grid does, and tells the new one what is deleted.
_REMOTE_HOST: Any = ray.remote(max_restarts=0)(RayHost)


class RayGrid(LocalGrid):
    """Every host is a Ray actor; one that dies is replaced, and what it had not answered is sent again.

    Args:
        hosts: number of nodes.
        gpus: of each; a fraction where hosts share one.
        here: whether all run on this machine.
    """

    def __init__(self, hosts: int, gpus: float = 0.0, here: bool = True) -> None:
        super().__init__(hosts)
        self._gpus = gpus
        self._here = here
        self._hosts = len(self._nodes)
        self._models = carried()
        self._remembered: dict[int, list[Message]] = {node: [] for node in self._nodes}
        self._actors = {node: self._new_actor(node) for node in self._nodes}
        self._futures: dict[str, ray.ObjectRef[Message]] = {}
        self.replaced = 0

    def _new_actor(self, node: int, **place: Any) -> Any:
        actor = _REMOTE_HOST.options(**({"num_cpus": 1, "num_gpus": self._gpus} | place)).remote(
            node, self._hosts, self._models
        )
        for message in self._remembered[node]:
            actor.handle.remote(message)
        return actor

    @property
    def self_sufficient(self) -> int:
        """How many hosts ``each`` can make use of: those that see this machine's files, and compute on its CPUs."""
        return self._hosts if self._here and not self._gpus else 1

    def each(self, work: Callable[[Piece], Done], pieces: deque[Piece]) -> Iterator[tuple[Piece, Done]]:
        """Have hosts do pieces of work by themselves, the next one as soon as one of them is free.

        Args:
            work: a function that can be imported.
            pieces: its arguments, taken from the left; who iterates may add more. One whose host dies is begun again.

        Yields:
            A piece and what ``work`` returned, as they are done.

        Raises:
            ClusterError: several hosts died over one piece.
            Exception: what ``work`` raised.
        """
        free = list(self._nodes)
        running: dict[ray.ObjectRef[Done], tuple[int, Piece, int]] = {}

        def begin(node: int, piece: Piece, deaths: int) -> None:
            running[self._actors[node].do.remote(work, piece)] = node, piece, deaths

        while pieces or running:
            while pieces and free:
                begin(free.pop(), pieces.popleft(), 0)
            [future] = daemons.ready(list(running))
            node, piece, deaths = running.pop(future)
            try:
                done: Done = daemons.got(future)
            except RayTaskError as fault:
                raise fault.cause from None
            except DEATHS:
                self._replace(node)
                if deaths + 1 == MAX_DEATHS:
                    raise ClusterError(
                        f"{MAX_DEATHS} hosts died over the same work (out of memory? With fewer runtime.hosts, less is "
                        f"done at once)"
                    ) from None
                begin(node, piece, deaths + 1)
                continue
            free.append(node)
            yield piece, done

    def _start(self, message: Message) -> None:
        node = message.metadata.dst_node_id
        self._futures[message.metadata.message_id] = self._actors[node].handle.remote(message)

    def _ready(self, number: str) -> bool:
        return self._wait(number, 0.0)

    def _wait(self, number: str, timeout: float | None) -> bool:
        return bool(daemons.ready([self._futures[number]], timeout=timeout))

    def _finish(self, number: str) -> Message:
        message = self._sent.pop(number)
        node = message.metadata.dst_node_id
        for _ in range(MAX_DEATHS):
            future = self._futures.pop(number)
            try:
                reply: Message = daemons.got(future)
            except RayTaskError as fault:
                return _error(message, f"{type(fault.cause).__name__}: {fault.cause}")
            except (*DEATHS, ObjectLostError):  # an answer may die with its machine after its host has given it
                self._replace(node)
                self._start(message)
                continue
            if message.metadata.message_type == STATEFUL:
                self._remembered[node].append(message)
            return reply
        return _error(message, f"{MAX_DEATHS} hosts died over this message (out of memory?)")

    def _replace(self, node: int) -> None:
        """Start a new actor for a node, unless an earlier message of the same death has done so."""
        try:
            daemons.got(self._actors[node].__ray_ready__.remote())
        except DEATHS:
            where = {} if self._gpus else {"scheduling_strategy": refuge(self.replaced)}
            self._actors[node] = self._new_actor(node, num_cpus=0, **where)
            self.replaced += 1
            if self._gpus:  # on the CPU it would compute other bits
                await_hosts([self._actors[node]])

    def await_hosts(self) -> None:
        """Wait until all hosts have found a place, as on a cluster that others use too they may not."""
        await_hosts(list(self._actors.values()))

    def close(self) -> None:
        """Stop the hosts."""
        for actor in () if daemons.is_lost() else self._actors.values():
            ray.kill(actor)
