"""The federation behind the protocol: blocks go out to hosts as Flower messages, and results come back in block order.

It runs on any Flower ``Grid``: ``RayGrid`` and ``SerialGrid`` (``grids``), or the one that ``flwr run`` hands
to a ServerApp.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from palimpsest.simulator.federation import messages
from palimpsest.simulator.federation.hosts import ConnectedHosts, connect
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import Answer, Block, Question
from palimpsest.simulator.world.records import Array, Forget
from palimpsest.simulator.world.specs import Precision

ATTEMPTS = 3
"""How often blocks are sent before a host that does not answer becomes an error."""


PORTION_BYTES = 2**24
"""Answers that are on their way at once: a host holds them, its message does, and so does the server's copy of it."""


class FederationError(RunFailure):
    """A host refused or failed, or did not answer."""


@dataclass
class Costs:
    """What was asked of clients since the start.

    Attributes:
        rounds: exchanges between server and clients, of however many branches together.
        client_updates: local trainings and full-batch answers of single clients.
        bytes_up, bytes_down: what those clients would send and receive: one model, or one set of statistics, each.
        client_seconds: of computing for all clients together, as hosts measured it.
    """

    rounds: int = 0
    client_updates: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    client_seconds: float = 0.0


@dataclass
class GridFederation:
    """``Federation`` on a Flower grid.

    Attributes:
        grid: Flower's way to the hosts.
        population: what hosts need to find their clients' data: ``{"data": ..., "seed": ..., "root": ...}``.
        sizes: ``[clients]`` records of each client before any deletion, to balance hosts.
        seed: the scenario's seed.
        arm: whose tombstones bind.
        sites: places that hold their own clients' records; 0: any host serves any client.
        device: where hosts compute.
        precision: of what they compute in float32.
        costs: what has been asked of clients.
    """

    grid: Grid
    population: Mapping[str, Any]
    sizes: Array
    seed: int = field(repr=False)
    arm: str
    sites: int = 0
    device: str = "cpu"
    precision: Precision = "highest"
    costs: Costs = field(default_factory=Costs)

    def ask(self, question: Question[Answer]) -> list[Answer]:
        """See ``Federation.ask``."""
        return list(self.stream(question))

    def stream(self, question: Question[Answer]) -> Iterator[Answer]:
        """See ``Federation.stream``: asks for a portion of the answers where all would take much memory."""
        up, model = 0, model_of(question.spec).bytes
        for portion in _portions(question, len(self.hosts())):
            answers = self._answers(question, portion)
            up = max(up, question.bytes_up(model, answers))
            yield from answers
        self._charge(question, up)

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        """See ``Federation.tombstone``: every host is told, whichever of them serves the client later."""
        self._mark(forget, lift=False)

    def readmit(self, branch: int, forget: Forget) -> None:
        """See ``Federation.readmit``."""
        self._mark({branch: forget}, lift=True)

    def _mark(self, forget: Mapping[int, Forget], lift: bool) -> None:
        """Tell every host of all branches in one message."""
        calls = {}
        for node in self.hosts():
            marks = {branch: self._roster.part(node, named) for branch, named in forget.items()}
            calls[node] = messages.pack({"arm": self.arm, "lift": lift}, marks, messages.MARKS)
        replies = self._exchange("query.tombstone", calls)
        if missing := set(calls).difference(replies):
            what = "new consent" if lift else "deletion"
            raise FederationError(f"hosts {sorted(missing)} did not confirm a {what} on branches {sorted(forget)}")

    def _charge(self, question: Question[Any], up: int) -> None:
        """Count what was asked, and what came up from each client."""
        clients = sum(len(block.clients) for block in question.blocks)
        model = model_of(question.spec).bytes
        self.costs.rounds += 1
        self.costs.client_updates += clients
        self.costs.bytes_down += clients * question.bytes_down(model)
        self.costs.bytes_up += clients * up

    def _answers(self, question: Question[Answer], wanted: Sequence[int]) -> list[Answer]:
        """Send each of these blocks to some host, once more to another if no answer comes."""
        blocks = question.blocks
        asker = {"arm": self.arm, "seed": self.seed, "population": self.population}
        asker |= {"device": self.device, "precision": self.precision}
        results: dict[int, Answer] = {}
        for _ in range(ATTEMPTS):
            pending = [i for i in wanted if i not in results]
            if not pending:
                break
            shares = self._share(blocks, pending, self.hosts())
            calls = {node: messages.pack_question(question.about(numbers), asker) for node, numbers in shares.items()}
            for node, reply in self._exchange("query.ask", calls).items():
                results.update(zip(shares[node], messages.unpack_answers(question, reply), strict=True))
                self.costs.client_seconds += messages.seconds_of(reply)
        if len(results) < len(wanted):
            raise FederationError(f"{len(wanted) - len(results)} blocks got no answer in {ATTEMPTS} attempts")
        return [results[i] for i in wanted]

    def _share(self, blocks: Sequence[Block], pending: Sequence[int], nodes: Sequence[int]) -> dict[int, list[int]]:
        """Give each host about the same number of records; blocks of the same clients go to the same host.

        Hosts keep the features of such blocks in memory. Who computes what changes no bit of the result.
        """
        together: dict[tuple[int, ...], list[int]] = {}
        for i in pending:
            together.setdefault(blocks[i].clients, []).append(i)
        cost = {clients: len(numbers) * int(self.sizes[list(clients)].sum()) for clients, numbers in together.items()}
        load = dict.fromkeys(nodes, 0)
        shares: dict[int, list[int]] = {node: [] for node in nodes}
        for clients in sorted(together, key=lambda clients: (-cost[clients], clients)):
            node = min(self._roster.serving(clients[0]), key=lambda node: load[node])
            load[node] += cost[clients]
            shares[node] += together[clients]
        return {node: sorted(numbers) for node, numbers in shares.items() if numbers}

    def hosts(self) -> list[int]:
        """Node ids in the order of the hosts' partition ids: Flower draws node ids at random."""
        return self._roster.nodes

    def gpus(self) -> Mapping[int, bool]:
        """Which hosts see a GPU, by node id."""
        return self._roster.gpus

    @cached_property
    def _roster(self) -> ConnectedHosts:
        return connect(self.grid.get_node_ids, self._hello, len(self.sizes), self.sites)

    def _hello(self, nodes: Iterable[int]) -> dict[int, dict[str, Any]]:
        replies = self._exchange("query.hello", {node: messages.pack({}) for node in nodes})
        return {node: messages.unpack(reply).header for node, reply in replies.items()}

    def _exchange(self, message_type: str, contents: Mapping[int, RecordDict]) -> dict[int, RecordDict]:
        """Send one message to each node; return the answers by node.

        Raises:
            FederationError: a host answered with an error (a refusal, or a fault in its own code).
        """
        sent = [
            Message(content, dst_node_id=node, message_type=message_type, group_id=self.arm)
            for node, content in contents.items()
        ]
        answers = {}
        for reply in self.grid.send_and_receive(sent):
            if reply.has_error():
                raise FederationError(f"host {reply.metadata.src_node_id} failed: {reply.error.reason}")
            answers[reply.metadata.src_node_id] = reply.content
        return answers


def _portions(question: Question[Any], hosts: int) -> Iterator[list[int]]:
    """Positions of consecutive blocks whose answers take ``PORTION_BYTES`` at most, or of one block a host."""
    model = model_of(question.spec).bytes
    portion: list[int] = []
    held = 0
    for i, block in enumerate(question.blocks):
        size = question.bytes_held(model, block)
        if len(portion) >= hosts and held + size > PORTION_BYTES:
            yield portion
            portion, held = [], 0
        portion.append(i)
        held += size
    if portion:
        yield portion
