"""Federated trainings of a softmax head with and without some records, by code of the tests' own, as transcripts."""

from pathlib import Path

import numpy as np

from palimpsest.server.strategies.fedavg import FedAvg
from palimpsest.simulator.testing.transcripts import Data
from palimpsest.simulator.world.models.model import linear_params
from palimpsest.simulator.world.protocols.knowledge import CaseView, PublicKnowledge, cases_of
from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.protocols.transcript import Transcript, TranscriptWriter
from palimpsest.simulator.world.records import Array, Case, Params, Phase, Release

CLIENTS = 10
LEARNING_RATE = 0.5


def models_of(
    data: Data,
    gone: list[int],
    rounds: int,
    batch: int,
    epochs: int = 1,
    strategy: Strategy | None = None,
    resumed: int = 0,
) -> list[Params]:
    """Every global model of a training whose clients hold equal shares; records that are gone leave their slots empty
    from round ``resumed`` on.

    Every second client takes part in a round; weights are the records that are left; the server averages, or makes of
    the mean what a strategy makes of it.
    """
    seed, server, state = 0, strategy or FedAvg(), ServerState()
    shares = np.array_split(np.arange(len(data.x)), CLIENTS)
    phi = np.concatenate([data.x, np.ones((len(data.x), 1))], axis=1)
    hot = np.eye(data.schema.outputs)[data.y.astype(int)]
    model = np.random.default_rng([seed, 99]).normal(scale=0.01, size=(phi.shape[1], data.schema.outputs))
    models = [linear_params(model)]
    for number in range(rounds):
        total, weight, absent = np.zeros_like(model), 0, gone if number >= resumed else []
        for client in range(number % 2, CLIENTS, 2):
            kept = np.setdiff1d(shares[client], absent)
            local = _trained(model, phi, hot, shares[client], absent, batch, epochs, [seed, number, client])
            total, weight = total + len(kept) * (local - model), weight + len(kept)
        step, state = server.step(Received({"theta": total / weight}), state)
        model = model + step["theta"]
        models.append(linear_params(model))
    return models


def _trained(
    model: Array, phi: Array, hot: Array, rows: Array, gone: list[int], batch: int, epochs: int, key: list[int]
) -> Array:
    for epoch in range(epochs):
        order = np.random.default_rng([*key, epoch]).permutation(rows)
        for begin in range(0, len(order), batch):
            some = np.setdiff1d(order[begin : begin + batch], gone)
            if len(some):
                slopes = phi[some].T @ (_softmax(phi[some] @ model) - hot[some])
                model = model - LEARNING_RATE * slopes / len(some)
    return model


def _softmax(scores: Array) -> Array:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return chances


def overheard(
    directory: Path,
    data: Data,
    deletions: list[list[int]],
    rounds: int,
    batch: int,
    epochs: int = 1,
    bits: int = 0,
    strategy: Strategy | None = None,
    resumed: int = 0,
) -> tuple[list[Case], PublicKnowledge]:
    """Train once with all records and once without those of each deletion; return what the eavesdropper has of it.

    A retraining goes back to the model after ``resumed`` rounds, and is heard from there on.
    """
    writer = TranscriptWriter(directory, bits=bits)
    ids = _write(writer, models_of(data, [], rounds, batch, epochs, strategy), 0, "training", None)
    views = []
    for number, gone in enumerate(deletions):
        models = models_of(data, gone, rounds, batch, epochs, strategy, resumed)
        heard = _write(writer, models, number + 1, "unlearning", ids[-1], resumed)
        views.append(CaseView(before=ids[-1], after=heard[-1], size=len(gone)))
    known = data.knowledge(data.spec("softmax", 0.0))
    training = {
        "clients_per_round": CLIENTS // 2,
        "local_epochs": epochs,
        "local_steps": 0,
        "batch_size": batch,
        "learning_rate": LEARNING_RATE,
        "sampling": None,
    }
    training |= {} if strategy is None else strategy.model_dump()
    facts = known.facts.model_copy(
        update={"algorithm": "fedavg", "training": training, "clients": CLIENTS, "cases": tuple(views)}
    )
    knowledge = PublicKnowledge(facts, known.x, known.y, known.box_low, known.box_high)
    return cases_of(Transcript.open(directory), facts), knowledge


def _write(
    writer: TranscriptWriter, models: list[Params], branch: int, phase: Phase, parent: int | None, begin: int = 0
) -> list[int]:
    numbered = list(enumerate(models))[begin:]
    return [writer.append(Release(branch, number, phase, model), parent) for number, model in numbered]
