"""Plain Flower: its stock simulation on Ray, one SuperNode a client, as its quickstart does it.

``run`` is called in a process of its own, with a file of the work and a place for the answer as arguments: it ends Ray
when it is done. Its driver walks over all stored messages once a SuperNode: a round of 1,000 out of 1,000 takes from
ten seconds to a minute, nearly all of it there.
"""

import os
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from safetensors.numpy import save_file

from palimpsest.simulator.bench.usage import cpu_seconds
from palimpsest.simulator.bench.work import RECIPE, RECORDS, Work, batches
from palimpsest.simulator.bench.workloads import loss_of
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.records import Array

ENOUGH = 20.0
"""Seconds of training after which no further round is begun."""

client_app = ClientApp()
server_app = ServerApp()


@client_app.query()
def which(message: Message, context: Context) -> Message:
    """Say which client this node is; a worker gets ready to train meanwhile."""
    work = _work(str(message.content.config_records["call"]["work"]))
    work.model.module(work.start())
    content = RecordDict({"is": ConfigRecord({"client": int(context.node_config["partition-id"])})})
    return Message(content, reply_to=message)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train on this client's records, and return the model."""
    call = message.content.config_records["call"]
    work, round = _work(str(call["work"])), int(str(call["round"]))
    client = int(context.node_config["partition-id"])
    population = Population.open(work.directory)
    x = torch.from_numpy(population.train_x[client * RECORDS : (client + 1) * RECORDS])
    y = torch.from_numpy(population.train_y[client * RECORDS : (client + 1) * RECORDS])
    module = work.model.module(work.start())
    module.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=RECIPE.learning_rate)
    loss = loss_of(work.model)
    for batch in batches(client, round):
        optimiser.zero_grad()
        loss(module(x[batch]), y[batch]).backward()
        optimiser.step()
    reply = RecordDict({"arrays": ArrayRecord(module.state_dict())})
    reply["metrics"] = MetricRecord({"num-examples": RECORDS})
    return Message(reply, reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds: send the model to the cohort's nodes, average what comes back."""
    work, out = _work(sys.argv[1]), Path(sys.argv[2])
    nodes = _nodes_of_clients(grid, work.population)
    started = time.time()
    module = work.model.module(work.start())
    times: list[float] = []
    cpu: list[float] = []
    first: dict[str, Array] = {}
    while len(times) < work.rounds and sum(times) < ENOUGH:
        round = len(times)
        used, began = cpu_seconds([os.getpid()]), time.perf_counter()
        content = RecordDict(
            {"arrays": ArrayRecord(module.state_dict()), "call": ConfigRecord({"work": sys.argv[1], "round": round})}
        )
        messages = [Message(content, nodes[client], "train") for client in work.clients(round)]
        states = [
            reply.content.array_records["arrays"].to_torch_state_dict() for reply in grid.send_and_receive(messages)
        ]
        if len(states) != len(messages):
            raise RuntimeError(f"{len(messages) - len(states)} clients did not answer")
        mean = {name: torch.stack([state[name] for state in states]).double().mean(0).float() for name in states[0]}
        module.load_state_dict(mean)
        times.append(time.perf_counter() - began)
        cpu.append(cpu_seconds([os.getpid()]) - used)
        if not first:
            first = {name.removeprefix("body."): value.numpy() for name, value in mean.items()}
    save_file({**first, "__times": np.array(times), "__cpu": np.array(cpu), "__started": np.array([started])}, out)


def _nodes_of_clients(grid: Grid, population: int) -> dict[int, int]:
    """Client -> node id, once all are there: Flower draws node ids at random."""
    while len(nodes := list(grid.get_node_ids())) < population:
        time.sleep(0.1)
    call = RecordDict({"call": ConfigRecord({"work": sys.argv[1]})})
    replies = grid.send_and_receive([Message(call, node, "query") for node in nodes])
    return {int(str(reply.content.config_records["is"]["client"])): reply.metadata.src_node_id for reply in replies}


@lru_cache
def _work(path: str) -> Work:
    return Work.model_validate_json(Path(path).read_text())


def run() -> None:
    """Start Flower's simulation on the work in ``sys.argv[1]``."""
    run_simulation(
        server_app,
        client_app,
        _work(sys.argv[1]).population,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
