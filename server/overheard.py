"""Clients under a curious server: what they send is written down; the training does not change by a bit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palimpsest.server.blocks import add_up
from palimpsest.server.setup import Setup
from palimpsest.simulator.world.models.batches import weigh
from palimpsest.simulator.world.protocols.federation import Answer, Block, BlockResult, Federation, Question
from palimpsest.simulator.world.protocols.messages import MessageWriter
from palimpsest.simulator.world.protocols.questions import Gradient, Train
from palimpsest.simulator.world.records import Array, Forget, Params


@dataclass(frozen=True)
class OverheardFederation:
    """A ``Federation`` whose server keeps what it hears of local training and of gradients.

    Attributes:
        inner: the clients.
        aside: the same clients, asked for what a server sees anyway and the simulation has added up already: single
            clients' gradients. Nobody pays for these.
        setup: of the training.
        writer: where messages are written.
        singly: whether every client's message is seen; False: only their sum over the cohort of a model.
    """

    inner: Federation
    aside: Federation
    setup: Setup
    writer: MessageWriter
    singly: bool

    def ask(self, question: Question[Answer]) -> list[Answer]:
        """Return the same bits as ``inner``, and write messages down."""
        asked: Question[Any] = question
        if isinstance(question, Train) and self.singly:
            asked = replace(question, each=True)
        answers: list[Answer] = self.inner.ask(asked)
        if isinstance(question, Train | Gradient):
            results: Sequence[Any] = answers
            for model in range(len(question.models)):
                positions = [i for i, block in enumerate(question.blocks) if block.model == model]
                for some in self._apart(question, positions):
                    self._keep(question, model, [question.blocks[i] for i in some], [results[i] for i in some])
        return answers

    def stream(self, question: Question[Answer]) -> Iterator[Answer]:
        """The same, one by one: they are written down together, so that all are held."""
        return iter(self.ask(question))

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        """Have the clients refuse, from now on, to read these records: of each branch its own."""
        self.inner.tombstone(forget)

    def readmit(self, branch: int, forget: Forget) -> None:
        """Let the clients read these records for this branch again."""
        self.inner.readmit(branch, forget)

    def _apart(self, question: Train | Gradient, own: Sequence[int]) -> list[list[int]]:
        """The blocks of one model, without the empty: who ascends apart, as far as single messages are heard."""
        ascending = [i for i in own if self.singly and question.blocks[i].ascent is not None]
        return [some for some in ([i for i in own if i not in ascending], ascending) if some]

    def _keep(
        self, question: Train | Gradient, model: int, blocks: Sequence[Block], results: Sequence[BlockResult]
    ) -> None:
        """Write down what one model was answered with."""
        if not self.singly:
            groups, weights, sent = _summed(question, blocks, results)
        elif isinstance(question, Train):
            groups, weights, sent = self._updates(question, blocks, results)
        else:
            groups, weights, sent = self._gradients(question, blocks, results)
        trains = isinstance(question, Train)
        self.writer.append(
            branch=blocks[0].branch,
            round=question.round if isinstance(question, Train) else question.step,
            kind="update" if trains else "gradient",
            about="forgotten" if self._of_forgotten(question, blocks) else "retained",
            clients=groups,
            weights=weights,
            start=question.models[model],
            sent=sent,
        )

    def _of_forgotten(self, question: Train | Gradient, blocks: Sequence[Block]) -> bool:
        """Whether exactly the forgotten records were read."""
        if isinstance(question, Gradient):
            return question.of == "forgotten"
        return all(block.ascent is not None for block in blocks)

    def _updates(self, question: Train, blocks: Sequence[Block], results: Sequence[BlockResult]) -> "_Heard":
        """Every client's update, cut to the defense's length where clients cut it."""
        rows = {name: np.concatenate([result.each[name] for result in results]) for name in results[0].each}
        groups = [(client,) for block in blocks for client in block.clients]
        left = [self._left(block, client, question) for block in blocks for client in block.clients]
        weights = weigh(np.array(left), question.recipe).astype(float)
        clips = np.array([block.update_clip for block in blocks for _ in block.clients])
        if clips.any():
            lengths = np.sqrt(sum((value.reshape(len(clips), -1) ** 2).sum(1) for value in rows.values()))
            scale = np.minimum(1.0, clips / np.maximum(lengths, 1e-12))
            rows = {name: value * scale.reshape(-1, *[1] * (value.ndim - 1)) for name, value in rows.items()}
            weights = np.ones(len(clips))
        return groups, list(weights), rows

    def _left(self, block: Block, client: int, question: Train) -> int:
        counted = question.recipe.private or block.ascent is not None
        gone = 0 if counted else len(block.forget.get(client, ()))
        return int(self.setup.sizes[client]) - gone

    def _gradients(self, question: Gradient, blocks: Sequence[Block], results: Sequence[BlockResult]) -> "_Heard":
        """Every client's gradient: asked for once more, client by client, where blocks have several."""
        singles = [single for block in blocks for single in _singly(block)]
        if len(singles) > len(blocks):
            model = [question.models[blocks[0].model]]
            again = replace(question, blocks=[replace(single, model=0) for single in singles], models=model)
            results = self.aside.ask(again)
        rows = {name: np.stack([result.sums[name] for result in results]) for name in results[0].sums}
        return [block.clients for block in singles], [result.weight for result in results], rows


_Heard = tuple[Sequence[Sequence[int]], Sequence[float], Params]
"""Of each message: who is in it and what it counts for; and name -> ``[messages, ...]``."""


def _summed(question: Train | Gradient, blocks: Sequence[Block], results: Sequence[BlockResult]) -> _Heard:
    """One message of a whole cohort: the mean update, or the sum of gradients."""
    [total] = add_up([replace(block, model=0) for block in blocks], results, 1)
    assert total is not None
    share = max(total.weight, 1.0) if isinstance(question, Train) else 1.0
    rows: dict[str, Array] = {name: value[None] / share for name, value in total.sums.items()}
    return [[client for block in blocks for client in block.clients]], [total.weight], rows


def _singly(block: Block) -> list[Block]:
    """The block cut into blocks of one client each."""
    return [
        replace(block, clients=(client,), forget={client: block.forget[client]} if client in block.forget else {})
        for client in block.clients
    ]
