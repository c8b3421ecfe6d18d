"""Scenarios drawn from the schema: each is refused in one sentence, or planned; some of those are run.

    python -m tests.soak.fuzz [COUNT [RUNS [SEED]]]

Draws COUNT scenarios (1,000), loads and plans them, runs RUNS (50) of those that can be run, in this process and below
a limit of its memory, and prints what ended otherwise, and the counts.
"""

import contextlib
import io
import json
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.grids import open_grid
from palimpsest.simulator.planning import cautions, estimate, previews
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.results.schema import RunFilesError
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario, scenario_from_dict
from palimpsest.simulator.scenario.registry import names
from palimpsest.simulator.world.errors import DataError, ModelError, RunFailure, disk_fault
from palimpsest.simulator.world.models import kinds
from tests.support.short import ATTACKS

COUNT, RUNS = 1000, 50
SECONDS = 120
"""That loading and planning one scenario may take."""
BYTES = 6 * 2**30
"""Of address space beyond what the imports take."""
REFUSED = (ScenarioError, DataError, ModelError, RunFilesError)
"""What the command turns into one sentence and exit code 2."""
ODD: tuple[Any, ...] = (
    -1,
    0,
    0.5,
    1e-300,
    1e300,
    10**30,
    True,
    "",
    "x" * 300,
    "\x1b[2J",
    "ü",
    "../..",
    [],
    [[]],
    {},
    {"a": 1},
)
_SCHEMA = Scenario.model_json_schema(mode="validation")
_FEW = {
    "clients": (1, 40), "rounds": (1, 4), "clients_per_round": (1, 40), "batch_size": (1, 64), "local_epochs": (1, 2),
    "requests": (1, 3), "records_per_request": (1, 3), "retrainings": (0, 2), "hosts": (1, 3), "missed_rounds": (0, 2),
    "public_records": (0, 60), "max_evaluations": (2, 50), "dimension": (8, 64),
}  # fmt: skip
"""Ranges in which a run is short."""
_COMMON = ("retrain", "none", "ascent", "finetune", "average", "hrec", "raw-difference")
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "source": ("digits", "digits", "digits", "breast-cancer", "diabetes", "no-such-data"),
    "kind": tuple(kinds.names()),
    "strategy": tuple(names("strategy")),
    "ray_address": ("",),
    "uri": ("",),
    "backend": ("serial",),
    "device": ("cpu",),
    "public_source": ("", "digits"),
}


def drawn(draw: random.Random) -> dict[str, Any]:
    """A scenario: some keys of some sections, most with values that the schema allows."""
    sections = {name: part for name, part in _SCHEMA["properties"].items() if "$ref" in part}
    share = draw.choice([0.0, 0.0, 0.2, 0.5])
    content: dict[str, Any] = {
        section: _value(draw, section, sections[section]) for section in sections if draw.random() < share
    }
    content["name"] = "fuzz" if draw.random() < 0.97 else draw.choice(["a/b", "", 3])
    content["seeds"] = [draw.randrange(3)] if draw.random() < 0.9 else draw.choice([[1, 2], [1, 1], [-1], []])
    content |= {
        "unlearning": _entries(draw, "unlearning", "method"),
        "defense": _entries(draw, "defense", "kind") if draw.random() < 0.4 else [{"kind": "none"}],
        "attack": [entry | ATTACKS.get(entry["kind"], {}) for entry in _entries(draw, "attack", "kind")],
    }
    short = [("data", "clients"), ("training", "rounds"), ("deletion", "requests")]
    given = {("data", "source"): "digits", ("runtime", "backend"): "serial"}
    for (section, key), value in (given | {place: draw.randint(*_FEW[place[1]]) for place in short}).items():
        if isinstance(part := content.setdefault(section, {}), dict):
            part.setdefault(key, value)
    if draw.random() < 0.03:
        content[draw.choice(sorted(content))] = draw.choice(ODD)
    return content


def _entries(draw: random.Random, group: Any, key: str) -> list[dict[str, Any]]:
    common = draw.random() < 0.6
    known = [name for name in names(group) if name in _COMMON] if common else names(group)
    return [{key: name} for name in draw.sample(known, min(len(known), draw.randint(1, 2)))]


def _value(draw: random.Random, key: str, schema: Mapping[str, Any]) -> Any:
    """A value for a key: mostly one of its type, now and then something odd."""
    if draw.random() < 0.01:
        return draw.choice(ODD)
    if "$ref" in schema:
        schema = _SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        given = [one for one in schema["anyOf"] if one.get("type") != "null"]  # TOML has no null
        return _value(draw, key, draw.choice(given))
    if "enum" in schema:
        return draw.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    return _OF_TYPE[schema.get("type", "null")](draw, key, schema)


def _object(draw: random.Random, key: str, schema: Mapping[str, Any]) -> Any:
    properties, wanted = schema.get("properties", {}), schema.get("required", ())
    return {
        name: _value(draw, name, part) for name, part in properties.items() if name in wanted or draw.random() < 0.15
    }


def _integer(draw: random.Random, key: str, schema: Mapping[str, Any]) -> int:
    low, high = _FEW.get(key, (schema.get("minimum", 0), schema.get("minimum", 0) + 20))
    return draw.randint(low, min(high, schema.get("maximum", high)))


def _number(draw: random.Random, key: str, schema: Mapping[str, Any]) -> float:
    return draw.choice([0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0, 2.0, 10.0])


_OF_TYPE: Mapping[str, Callable[[random.Random, str, Mapping[str, Any]], Any]] = {
    "object": _object,
    "integer": _integer,
    "number": _number,
    "boolean": lambda draw, key, schema: draw.random() < 0.5,
    "string": lambda draw, key, schema: draw.choice(_TEXTS.get(key, ("", "a", "label"))),
    "array": lambda draw, key, schema: [_value(draw, key, schema.get("items", {})) for _ in range(draw.randint(0, 2))],
    "null": lambda draw, key, schema: draw.choice(ODD),
}


def planned(content: Mapping[str, Any]) -> Scenario | str:
    """What ``palimpsest plan`` makes of it: the scenario, or the sentence that refuses it.

    Raises:
        Exception: what the command would show a traceback for.
    """
    try:
        scenario = scenario_from_dict(content)
        outline = plan(scenario)
        lines = [*previews.of_plan(outline), *cautions.of_plan(outline, scenario.privacy)]
        Console(file=io.StringIO()).print("\n".join(lines), estimate.table(outline, scenario), markup=False)
    except REFUSED as error:
        return str(error)
    return scenario


def run_once(scenario: Scenario) -> str:
    """Run it; return the sentence that ended it, empty: none.

    Raises:
        Exception: what the command would show a traceback for.
    """
    with tempfile.TemporaryDirectory() as place, open_grid("serial", 1) as grid:
        try:
            simulate(scenario, prepare(scenario), Path(place), grid)
        except (*REFUSED, RunFailure) as error:
            return str(error)
        except OSError as error:
            if disk_fault(error):
                return str(error)
            raise
    return ""


@contextlib.contextmanager
def bounded(seconds: int, bytes: int = BYTES) -> Iterator[None]:
    """End what takes longer or more memory by an exception."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (taken + bytes, before[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def fuzz(count: int, runs: int, seed: int = 0, show: Callable[[str], None] = print) -> tuple[Counter[str], list[str]]:
    """Draw, load, plan and run; return how many ended how, and what ended as none should.

    Args:
        count: of scenarios.
        runs: how many of those that are planned are run.
        seed: of the draws.
        show: is told of each that is wrong, and now and then of the counts.
    """
    ended: Counter[str] = Counter()
    wrong = []
    for number in range(count):
        content, began = drawn(random.Random(f"{seed}/{number}")), time.monotonic()
        step = "planned"
        try:
            with bounded(SECONDS):
                made = planned(content)
            how = "refused" if isinstance(made, str) else "planned"
            sentence = made if isinstance(made, str) else ""
            if isinstance(made, Scenario) and ended["run"] + ended["run refused"] < runs:
                step = "run"
                with bounded(10 * SECONDS):
                    sentence = run_once(made)
                ended["run refused" if sentence else "run"] += 1
            if len(sentence) > 2000:
                raise ValueError(f"a sentence of {len(sentence)} characters")
        except Exception as error:
            how = "wrong"
            wrong.append(f"{seed}/{number} {step} {type(error).__name__}: {error} {json.dumps(content)}")
            show(wrong[-1])
        ended[how] += 1
        if number % 50 == 49:
            show(f"after {number + 1}: {dict(ended)}")
        ended["seconds"] += int(time.monotonic() - began)
    return ended, wrong


def main(arguments: Sequence[str]) -> int:
    """Fuzz; return how many ended otherwise."""
    count, runs, seed = (*map(int, arguments), *(COUNT, RUNS, 0)[len(arguments) :])
    ended, wrong = fuzz(count, runs, seed)
    print(dict(ended), flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
