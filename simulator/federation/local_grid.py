"""Flower grids inside this process: what they share, and the serial twin."""

import importlib
import time
import uuid
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from flwr.app import Context, Error, Message, Metadata, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

CLIENT_APP = "palimpsest.simulator.federation.client_app:client_app"


RUN = 1


SERVER_NODE = 1


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
