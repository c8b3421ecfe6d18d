"""Flower grids inside this process: ``RayGrid``, a pool of Ray actors, and its serial twin.

Flower's stock simulation polls its in-memory link and restarts Ray at the end of every run. These grids hand Flower
messages to Flower ClientApps directly, and otherwise behave as any ``Grid``. Only this file and ``cluster`` import ray.
"""

import importlib
import time
import uuid
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import ray
from flwr.app import Context, Error, Message, Metadata, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from ray.exceptions import ObjectLostError, RayTaskError

from simulator.cluster import DEATHS, ClusterError, await_hosts, gpu_share, hosts_for, ray_session, refuge

CLIENT_APP = "simulator.apps:client_app"
RUN = 1
SERVER_NODE = 1
STATEFUL = "query.tombstone"
"""Messages that change what a host remembers: a restarted host hears them again."""

MAX_DEATHS = 3
"""How many hosts may die over one message before it is the message that is at fault."""

Piece = TypeVar("Piece")
Done = TypeVar("Done")


class LocalGrid(Grid):
    """What both grids share. Node ids are 2, 3, ...; partition ids count from 0.

    Args:
        hosts: number of nodes.
    """

    def __init__(self, hosts: int) -> None:
        self._run = Run.create_empty(run_id=RUN)
        _identify()
        self._nodes = list(range(SERVER_NODE + 1, SERVER_NODE + 1 + hosts))
        self._sent: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Take over a run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Create a message to a node, as Flower asks of a grid (``Message`` itself is the current way)."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all hosts."""
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Start work on messages; return their ids."""
        pushed = [_numbered(message) for message in messages]
        for message in pushed:
            self._sent[message.metadata.message_id] = message
            self._start(message)
        return [message.metadata.message_id for message in pushed]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are ready."""
        return [self._finish(number) for number in message_ids if number in self._sent and self._ready(number)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages and wait for all replies, or for those that come within ``timeout`` seconds."""
        waiting = list(self.push_messages(messages))
        deadline = None if timeout is None else time.monotonic() + timeout
        replies = []
        for number in waiting:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._wait(number, left):
                replies.append(self._finish(number))
        return replies

    @abstractmethod
    def _start(self, message: Message) -> None: ...

    @abstractmethod
    def _ready(self, number: str) -> bool: ...

    @abstractmethod
    def _wait(self, number: str, timeout: float | None) -> bool: ...

    @abstractmethod
    def _finish(self, number: str) -> Message: ...


def _identify() -> None:
    """Tell Flower who this process is: ``Message`` reads it. The one internal of Flower that these grids touch."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = RUN, 1, SERVER_NODE


def _numbered(message: Message) -> Message:
    """The message with an id of its own, which a SuperLink would give it."""
    given = message.metadata
    metadata = Metadata(
        run_id=given.run_id,
        message_id=str(uuid.uuid4()),
        src_node_id=given.src_node_id,
        dst_node_id=given.dst_node_id,
        reply_to_message_id="",
        group_id=given.group_id,
        created_at=given.created_at,
        ttl=given.ttl,
        message_type=given.message_type,
    )
    return Message(content=message.content, metadata=metadata)  # type: ignore[call-overload, no-any-return]


def _host_context(node: int, hosts: int) -> Context:
    config: dict[str, Any] = {"partition-id": node - SERVER_NODE - 1, "num-partitions": hosts}
    return Context(run_id=RUN, node_id=node, node_config=config, state=RecordDict(), run_config={})


def _load_app() -> ClientApp:
    module, name = CLIENT_APP.split(":")
    app: ClientApp = getattr(importlib.import_module(module), name)
    return app


def _error(message: Message, reason: str) -> Message:
    return Message(Error(code=0, reason=reason), reply_to=message)


class SerialGrid(LocalGrid):
    """Every host in this process, one message after the other."""

    def __init__(self, hosts: int = 1) -> None:
        super().__init__(hosts)
        self._app = _load_app()
        self._contexts = {node: _host_context(node, hosts) for node in self._nodes}
        self._replies: dict[str, Message] = {}

    def _start(self, message: Message) -> None:
        node = message.metadata.dst_node_id
        try:
            reply = self._app(message, self._contexts[node])
        except Exception as fault:  # a fault of the app is a host's answer, as it is on Ray and in Flower's runtime
            reply = _error(message, f"{type(fault).__name__}: {fault}")
        self._replies[message.metadata.message_id] = reply

    def _ready(self, number: str) -> bool:
        return True

    def _wait(self, number: str, timeout: float | None) -> bool:
        return True

    def _finish(self, number: str) -> Message:
        del self._sent[number]
        return self._replies.pop(number)


class _RayHost:
    """One host: the ClientApp and its context in a process of its own, with a single torch and BLAS thread."""

    def __init__(self, node: int, hosts: int) -> None:
        import torch

        torch.set_num_threads(1)
        self._app = _load_app()
        self._context = _host_context(node, hosts)

    def handle(self, message: Message) -> Message:
        return self._app(message, self._context)

    def do(self, work: Callable[[Any], Any], piece: Any) -> Any:
        return work(piece)


# Ray itself must not restart a dead host: the grid does, and tells the new one what is deleted.
_REMOTE_HOST: Any = ray.remote(max_restarts=0)(_RayHost)


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
        self._remembered: dict[int, list[Message]] = {node: [] for node in self._nodes}
        self._actors = {node: self._new_actor(node) for node in self._nodes}
        self._futures: dict[str, ray.ObjectRef[Message]] = {}
        self.replaced = 0

    def _new_actor(self, node: int, **place: Any) -> Any:
        actor = _REMOTE_HOST.options(**({"num_cpus": 1, "num_gpus": self._gpus} | place)).remote(node, self._hosts)
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
            [future], _ = ray.wait(list(running), num_returns=1)
            node, piece, deaths = running.pop(future)
            try:
                done: Done = ray.get(future)
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
        ready, _ = ray.wait([self._futures[number]], timeout=timeout)
        return bool(ready)

    def _finish(self, number: str) -> Message:
        message = self._sent.pop(number)
        node = message.metadata.dst_node_id
        for _ in range(MAX_DEATHS):
            future = self._futures.pop(number)
            try:
                reply: Message = ray.get(future)
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
            ray.get(self._actors[node].__ray_ready__.remote())
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
        for actor in self._actors.values():
            ray.kill(actor)


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
