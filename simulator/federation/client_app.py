"""The ClientApp of every host: in ``palimpsest run``, under ``flwr run .`` and in a Flower deployment."""

import json
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

import palimpsest.simulator.world.telemetry  # noqa: F401
from palimpsest.clients.host import Host
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.simulator.federation import messages as wire
from palimpsest.simulator.federation.threads import hold_to_one_thread
from palimpsest.simulator.world.data.build import DataConfig, build_population, open_population
from palimpsest.simulator.world.data.sites import about_site, open_site
from palimpsest.simulator.world.specs import ModelSpec, PrivateSteps, Recipe


def _timed(message: Message, context: Context, answer: Callable[[Message, Context], Message]) -> Message:
    """Put beside every answer how long it took (a mod of the ClientApp)."""
    began = time.perf_counter()
    reply = answer(message, context)
    if reply.has_content():
        wire.note_seconds(reply.content, time.perf_counter() - began)
    return reply


client_app = ClientApp(mods=[_timed])


@client_app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which part of the federation this host is, what it has, and whose records, where it has those of a site."""
    place = _site_data(context)
    about: dict[str, Any] = {} if place is None else dict(about_site(place))
    about |= {"partition": context.node_config.get("partition-id", 0), "gpu": torch.cuda.is_available()}
    return Message(wire.pack(about, {}), reply_to=message)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train the clients of some blocks."""
    call, arrays = wire.unpack(message.content)
    results = _host(call, context).train(
        ModelSpec.model_validate(call["spec"]),
        wire.unstack_models(arrays),
        wire.blocks_from_json(call["blocks"]),
        call["round"],
        Recipe.model_validate(call["recipe"]),
        call["each"],
    )
    return Message(wire.results_to_record(results), reply_to=message)


@client_app.query("gradient")
def gradient(message: Message, context: Context) -> Message:
    """Add up loss gradients over some blocks."""
    call, arrays = wire.unpack(message.content)
    spec, blocks = ModelSpec.model_validate(call["spec"]), wire.blocks_from_json(call["blocks"])
    private = None if call["private"] is None else PrivateSteps.model_validate(call["private"])
    host, models = _host(call, context), wire.unstack_models(arrays)
    results = host.gradient(spec, models, blocks, call["of"], call["loss"], private, call["step"])
    return Message(wire.results_to_record(results), reply_to=message)


@client_app.query("hessian")
def hessian(message: Message, context: Context) -> Message:
    """Add up Hessian-vector products over some blocks."""
    call, arrays = wire.unpack(message.content)
    spec, blocks = ModelSpec.model_validate(call["spec"]), wire.blocks_from_json(call["blocks"])
    models, vectors = wire.unpair_models(wire.unstack_models(arrays))
    results = _host(call, context).hessian(spec, models, vectors, blocks)
    return Message(wire.results_to_record(results), reply_to=message)


@client_app.query("statistics")
def statistics(message: Message, context: Context) -> Message:
    """Compute ridge statistics of what some blocks retain."""
    call, _ = wire.unpack(message.content)
    spec, blocks = ModelSpec.model_validate(call["spec"]), wire.blocks_from_json(call["blocks"])
    return Message(wire.statistics_to_record(_host(call, context).statistics(spec, blocks)), reply_to=message)


@client_app.query("factors")
def factors(message: Message, context: Context) -> Message:
    """Compute ridge statistics of what some blocks forget."""
    call, _ = wire.unpack(message.content)
    spec, blocks = ModelSpec.model_validate(call["spec"]), wire.blocks_from_json(call["blocks"])
    return Message(wire.factors_to_record(_host(call, context).factors(spec, blocks)), reply_to=message)


@client_app.query("tombstone")
def tombstone(message: Message, context: Context) -> Message:
    """Remember, in this host's own state, that records are deleted, or that there is a new consent to their use."""
    call, _ = wire.unpack(message.content)
    tombstones = _tombstones(context)
    mark = tombstones.lift if call["lift"] else tombstones.bury
    for branch, forget in wire.marks_from_json(call["marks"]).items():
        mark(call["arm"], branch, forget)
    return Message(wire.pack({}, {}), reply_to=message)


def _host(call: dict[str, Any], context: Context) -> Host:
    """The clients of one call's population, with what they remember to have deleted."""
    hold_to_one_thread()  # bits depend on it, and Flower's own runtime does not say so
    about = call["population"]
    place = _site_data(context)
    if place is None:
        reader = _reader(json.dumps(about["data"]), call["seed"], about["directory"])
    else:
        reader = _reader_of_site(place, Path(about["directory"]).name)
    return Host(reader, call["seed"], call["arm"], _tombstones(context), call["device"])


def _site_data(context: Context) -> Path | None:
    """Directory of the only records that this host holds; None where it serves any client."""
    given = str(context.node_config.get("site-data", ""))
    return Path(given) if given else None


def _tombstones(context: Context) -> Tombstones:
    """What is kept in this host's own state."""
    return Tombstones(context.state.config_records.setdefault("tombstones", ConfigRecord()))


@lru_cache(maxsize=2)
def _reader(data: str, seed: int, directory: str) -> Reader:
    """Open a population; a host that does not find it on its disk builds it from the same configuration and seed."""
    place, config = Path(directory), DataConfig.model_validate_json(data)
    if not place.is_dir():
        build_population(config, seed).save(place)
    return Reader(open_population(config, place))


@lru_cache(maxsize=2)
def _reader_of_site(place: Path, name: str) -> Reader:
    return Reader(open_site(place, name))
