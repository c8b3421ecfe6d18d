"""Transcripts of a tiny federation from which every trace of the deleted records is gone, and what chance is on them.

All but the models' and messages' numbers is as a run writes it: public knowledge, challenge, index, cases. These
numbers are noise, so that an attack which is right more often than chance has it from somewhere else.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from palimpsest.simulator.experiment.attacked import grant
from palimpsest.simulator.experiment.observers import Observers
from palimpsest.simulator.experiment.runner import prepare
from palimpsest.simulator.experiment.served import ArmInputs, serve
from palimpsest.simulator.experiment.training import SharedTraining
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.privacy import EpsilonMeter
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.messages import MESSAGES
from palimpsest.simulator.world.records import Array
from tests.support.scenarios import small_scenario

TIERS = ("releases", "aggregate", "updates")
MODELS = {"softmax": {"kind": "softmax"}, "mlp": {"kind": "mlp", "hidden": 8}}
REQUESTS = 8
DRAWS = 4000
"""Ways in which the deleted records are dealt to the cases anew."""


@dataclass(frozen=True)
class Deletions:
    """One arm's transcript at one tier, and the truth.

    Attributes:
        transcript: its directory.
        x, y: the deleted records, a row a case.
    """

    transcript: Path
    x: Array
    y: Array


def served(
    place: Path, models: Sequence[str] = tuple(MODELS), secret: str = "", seed: int = 0
) -> dict[tuple[str, str], Deletions]:
    """Run the federations, with every model at every tier; nothing is attacked or scored."""
    found = {}
    for kind in models:
        for sees in ("updates", "aggregate"):
            found[kind, sees] = _served(place / kind / sees, MODELS[kind], sees, secret, seed)
        one = found[kind, "updates"]
        without = place / kind / "releases"
        shutil.copytree(one.transcript, without, ignore=shutil.ignore_patterns(MESSAGES))
        found[kind, "releases"] = Deletions(without, one.x, one.y)
    return found


def _served(place: Path, model: Mapping[str, Any], sees: str, secret: str, seed: int) -> Deletions:
    scenario = small_scenario(
        model=model,
        data={"source": "digits", "clients": 4, "public_fraction": 0.15, "test_fraction": 0.05},
        training={"rounds": 2, "clients_per_round": 0, "batch_size": 1000, "learning_rate": 0.1},
        deletion={"requests": REQUESTS},
        unlearning=[{"method": "retrain", "coupling": "same-order"}],
        attack=[{"kind": "candidate-match"}],
        adversary={"sees": sees},
        seeds=[seed],
        privacy={"secret": secret},
        federation={"secure_aggregation": sees == "aggregate"},
    )
    [prefix], [ground] = plan(scenario).prefixes, prepare(scenario)
    with one_thread():
        trunk = SharedTraining.of(ground, SerialGrid(1), (), place / "scratch")
        for _ in trunk.train(EpsilonMeter(scenario.privacy.delta, scenario.privacy.accountant)):
            pass
        inputs = ArmInputs(scenario, prefix.arms[0], trunk)
        result = serve(inputs, place / "arm", place / "ledger.jsonl", Observers([]))
    granted = grant(inputs, result)
    granted.knowledge.save(place / "arm")
    records = [inputs.forgotten(processed) for processed in result.processed]
    return Deletions(place / "arm", np.concatenate([x for x, _ in records]), np.concatenate([y for _, y in records]))


def silenced(one: Deletions, seed: int) -> Deletions:
    """Put noise in the place of every model but the first, and of every message."""
    rng = np.random.default_rng(seed)
    lines = _lines(one.transcript / "releases.jsonl")
    first = load_file(one.transcript / lines[0]["file"])
    drawn: dict[tuple[int, int], dict[str, Array]] = {}
    for line in lines:
        start = line["round"] == 0
        moved = first if start else {name: value + _noise(rng, value, 0.01) for name, value in first.items()}
        drawn[line["branch"], line["round"]] = moved
        line["sha256"] = _put(one.transcript / line["file"], moved)
    _write(one.transcript / "releases.jsonl", lines)
    folder = one.transcript / MESSAGES
    if folder.is_dir():
        heard = _lines(folder / "messages.jsonl")
        for line in heard:
            arrays = load_file(folder / line["file"])
            model = drawn.get((max(line["branch"], 0), line["round"]), first)
            noise = {
                name: model[name.removeprefix("start/")] if name.startswith("start/") else _noise(rng, value, 0.01)
                for name, value in arrays.items()
            }
            (folder / line["file"]).unlink()  # it may be linked to another arm's
            line["sha256"] = _put(folder / line["file"], noise)
        _write(folder / "messages.jsonl", heard)
    return one


def _noise(rng: np.random.Generator, like: Array, size: float) -> Array:
    drawn: Array = (size * rng.standard_normal(like.shape)).astype(like.dtype)
    return drawn


def _lines(index: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in index.read_text().splitlines()]


def _write(index: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _put(path: Path, arrays: Mapping[str, Array]) -> str:
    content = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def by_luck(guesses: Sequence[Any], one: Deletions) -> float:
    """How often records that are dealt to the cases at random fit the answers as well as the true ones.

    Args:
        guesses: one a case.
        one: the truth.
    """
    known = PublicKnowledge.open(one.transcript / "knowledge.json")
    fits = np.array([FITS[guess.name](guess, one, known) for guess in guesses])
    rng, cases = np.random.default_rng(9), np.arange(len(guesses))
    dealt = np.array([rng.permutation(len(guesses)) for _ in range(DRAWS)])
    own, others = np.trace(fits), fits[cases, dealt].sum(axis=1)
    return float((1 + (others >= own - 1e-9).sum()) / (1 + DRAWS))


def _by_records(guess: Any, one: Deletions, known: PublicKnowledge) -> Array:
    """Centred cosine with each deleted record."""
    answer, truth = np.asarray(guess.x).mean(axis=0) - known.mean, one.x - known.mean
    length = np.linalg.norm(answer) * np.linalg.norm(truth, axis=1)
    cosines: Array = truth @ answer / np.maximum(length, 1e-300)
    return cosines


def _by_classes(guess: Any, one: Deletions, known: PublicKnowledge) -> Array:
    """Rank of each deleted record's class."""
    return _rank(np.asarray(guess.evidence))[one.y.astype(int)]


def _by_counts(guess: Any, one: Deletions, known: PublicKnowledge) -> Array:
    """How many records of each one's class there are said to be."""
    counts: Array = np.asarray(guess.counts)[one.y.astype(int)]
    return counts


def _by_scores(guess: Any, one: Deletions, known: PublicKnowledge) -> Array:
    """Rank of each deleted record among those asked about."""
    assert known.challenge is not None
    places = [int(np.argmin(np.abs(known.challenge.x - x).sum(axis=1))) for x in one.x]
    return _rank(np.asarray(guess.deleted))[places]


def _rank(values: Array) -> Array:
    below = (values[:, None] > values).mean(axis=1)
    level: Array = below + (values[:, None] == values).mean(axis=1) / 2
    return level


FITS: dict[str, Callable[[Any, Deletions, PublicKnowledge], Array]] = {
    "reconstruction": _by_records,
    "labels": _by_classes,
    "scores": _by_scores,
    "profile": _by_counts,
}
"""``[cases]`` how well an answer fits each of the deleted records, by the kind of answer."""
