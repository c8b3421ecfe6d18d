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
from palimpsest.clients.host import QUESTIONS, Host
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.simulator.federation import messages
from palimpsest.simulator.federation.threads import hold_to_one_thread
from palimpsest.simulator.world.data.build import DataConfig, build_population, open_population
from palimpsest.simulator.world.data.sites import about_site, open_site


def _timed(message: Message, context: Context, answer: Callable[[Message, Context], Message]) -> Message:
    """Put beside every answer how long it took (a mod of the ClientApp)."""
    began = time.perf_counter()
    reply = answer(message, context)
    if reply.has_content():
        messages.note_seconds(reply.content, time.perf_counter() - began)
    return reply


client_app = ClientApp(mods=[_timed])


@client_app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which part of the federation this host is, what it has, and whose records, where it has those of a site."""
    place = _site_data(context)
    about: dict[str, Any] = {} if place is None else dict(about_site(place))
    about |= {"partition": context.node_config.get("partition-id", 0), "gpu": torch.cuda.is_available()}
    return Message(messages.pack(about), reply_to=message)


@client_app.query("ask")
def ask(message: Message, context: Context) -> Message:
    """Answer a question about some blocks."""
    call = messages.unpack(message.content)
    name = call.header["question"]
    if name not in QUESTIONS:
        raise LookupError(f"no question is called {name!r} here: server and host are of different versions")
    question = call.read(QUESTIONS[name])
    return Message(messages.pack_answers(question, _host(call.header, context).ask(question)), reply_to=message)


@client_app.query("tombstone")
def tombstone(message: Message, context: Context) -> Message:
    """Remember, in this host's own state, that records are deleted, or that there is a new consent to their use."""
    call = messages.unpack(message.content)
    tombstones = _tombstones(context)
    mark = tombstones.lift if call.header["lift"] else tombstones.bury
    for branch, forget in call.read(messages.MARKS).items():
        mark(call.header["arm"], branch, forget)
    return Message(messages.pack({}), reply_to=message)


def _host(asker: dict[str, Any], context: Context) -> Host:
    """The clients of the asker's population, with what they remember to have deleted."""
    hold_to_one_thread()  # bits depend on it, and Flower's own runtime does not say so
    about = asker["population"]
    place = _site_data(context)
    if place is None:
        reader = _reader(json.dumps(about["data"]), asker["seed"], about["directory"])
    else:
        reader = _reader_of_site(place, Path(about["directory"]).name)
    return Host(reader, asker["seed"], asker["arm"], _tombstones(context), asker["device"], asker["precision"])


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
