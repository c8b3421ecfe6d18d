"""Scenarios with one absurd number each: every one ends with figures, or in one sentence, within seconds of CPU.

    python -m tests.soak.extremes [COUNT [SEED]]

Every numeric key of the schema, and every hyper-parameter of every method, defense, attack and strategy, is given the
smallest and largest numbers that TOML has, on six clients and two rounds. COUNT of these are drawn (all), each is run
in a process of its own below limits of CPU time and memory, and what ended otherwise is printed, with the counts.
"""

import contextlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palimpsest.simulator.experiment.finite import not_finite
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.grids import open_grid
from palimpsest.simulator.planning import cautions, limits
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.results.schema import RunFilesError
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario, scenario_from_dict
from palimpsest.simulator.scenario.registry import NAME_KEY, Group, method_class, names
from palimpsest.simulator.world.errors import DataError, ModelError, RunFailure

CPU, BYTES = 60, 6 * 2**30
"""Seconds that one run and each of its attacks may compute, and address space beyond what the imports take."""
REFUSED = (ScenarioError, DataError, ModelError, RunFilesError)
FLOATS = (1e-300, 1e-30, 1e30, 1e300)
INTEGERS = (10**9, 10**18)
GROUPS: tuple[Group, ...] = ("unlearning", "defense", "attack")
_WITH: Mapping[str, dict[str, Any]] = {
    "training.stop": {"training": {"algorithm": "lbfgs"}},
    "training.perturbation": {"training": {"algorithm": "lbfgs"}},
    "training.decay": {"training": {"schedule": "exponential"}},
    "training.start_epochs": {"training": {"start": "public"}},
    "training.local_epochs": {"training": {"local_epochs": 1}},
    "data.partition.alpha": {"data": {"partition": {"scheme": "dirichlet"}}},
    "evaluation": {"evaluation": {"retrainings": 1}},
}
"""What a key needs beside it, by its beginning."""
_AROUND: Sequence[dict[str, Any]] = (
    {},
    {"deletion": {"level": "client"}},
    {"deletion": {"level": "client"}, "model": {"kind": "mlp", "hidden": 8}, "adversary": {"sees": "updates"}},
    {"training": {"algorithm": "lbfgs", "perturbation": 1.0}},
)
"""Scenarios in which methods are tried one after the other, until they work on one."""
Case = tuple[str, Sequence[dict[str, Any]]]
"""A key with its value, and scenarios with it: the first that is not refused counts."""


def cases() -> list[Case]:
    """Every numeric key with every extreme, as scenarios."""
    found: list[Case] = []
    for path, schema in _keys(Scenario.model_json_schema(mode="validation")):
        for value in _extremes(schema):
            content = _tiny()
            for begins, more in _WITH.items():
                if path.startswith(begins):
                    content = _merged(content, more)
            for part in reversed(path.split(".")):
                value = {part: value}
            found.append((f"{path} = {_last(value)}", [_merged(content, value)]))
    for group in GROUPS:
        for name in names(group):
            for field, schema in method_class(group, name).model_json_schema().get("properties", {}).items():
                for value in _extremes(schema):
                    entry = {NAME_KEY[group]: name, field: value}
                    around = [_merged(_tiny(), more) | {group: [entry]} for more in _AROUND]
                    found.append((f"{group} {name}: {field} = {value}", around))
    return found


def _tiny() -> dict[str, Any]:
    return {
        "name": "extreme",
        "data": {"source": "digits", "clients": 6},
        "training": {"rounds": 2, "local_epochs": 1, "batch_size": 32, "clients_per_round": 3},
        "deletion": {"requests": 1},
        "unlearning": [{"method": "retrain"}],
        "attack": [{"kind": "raw-difference"}],
        "runtime": {"backend": "serial"},
    }


def _keys(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Paths of numeric keys of sections, and their schemas."""

    def walk(path: str, part: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for inner in part.get("anyOf", [part]):
            resolved = schema["$defs"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
            if resolved.get("type") in ("number", "integer"):
                yield path, resolved
            for name, below in resolved.get("properties", {}).items():
                yield from walk(f"{path}.{name}" if path else name, below)

    yield from walk("", {"properties": {k: v for k, v in schema["properties"].items() if "$ref" in v}})


def _extremes(schema: Mapping[str, Any]) -> Sequence[Any]:
    kinds = {part.get("type") for part in schema.get("anyOf", [schema])}
    return FLOATS if "number" in kinds else INTEGERS if "integer" in kinds else ()


def _merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    both = {k: _merged(a[k], b[k]) for k in a if isinstance(a[k], dict) and isinstance(b.get(k), dict)}
    merged = {**a, **b, **both}
    if "sampling" in merged:
        merged.pop("clients_per_round", None)
    return merged


def _last(value: Any) -> Any:
    while isinstance(value, dict):
        [value] = value.values()
    return value


def ended(contents: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Run a scenario to its end in a process of its own: ``done``, ``refused``, ``failed`` or ``wrong``, and why."""
    with tempfile.TemporaryFile("w+") as answer:
        child = os.fork()
        if not child:
            _in_child(contents, answer.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answer.seek(0)
        said = answer.read()
    if status or not said:
        return "wrong", f"ended with {signal.Signals(-status).name if status < 0 else status}: {said[-800:]}"
    how, sentence = json.loads(said)
    if "\n" in sentence or len(sentence) > 2000:
        return "wrong", f"no sentence: {sentence[:800]}"
    return how, sentence


def _in_child(contents: Sequence[Mapping[str, Any]], answer: int) -> None:
    os.setpgid(0, 0)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, resource.RLIM_INFINITY))
    used = sum(os.times()[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU, int(used) + CPU + 5))
    try:
        how, said = "refused", ""
        for content in contents:
            if how == "refused":
                how, said = _outcome(content)
        os.write(answer, json.dumps((how, said)).encode())
    except BaseException:
        os.write(answer, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)


def _outcome(content: Mapping[str, Any]) -> tuple[str, str]:
    try:
        scenario = scenario_from_dict(content)
        outline = plan(scenario)
        limits.check(outline, scenario)
        cautions.of_plan(outline, scenario.privacy)
        with tempfile.TemporaryDirectory() as place, open_grid("serial", 1) as grid:
            results = simulate(scenario, prepare(scenario), Path(place), grid)
            if where := not_finite(json.loads((Path(place) / "results.json").read_text())):
                return "wrong", f"{where} is not finite"
    except REFUSED as error:
        return "refused", str(error)
    except RunFailure as error:
        return "failed", str(error)
    late = [why for arm in results.arms for why in arm.failed_attacks.values() if "SIGXCPU" in why or "SIGKILL" in why]
    if late:
        return "wrong", f"an attack does not end: {late[0]}"
    said = [arm.diverged for arm in results.arms if arm.diverged]
    said += [why for arm in results.arms for why in arm.failed_attacks.values()]
    return ("without scores" if said else "done"), "; ".join(said).replace("\n", " ")[:2000]


def tried(count: int = 0, seed: int = 0, show: Callable[[str], None] = print) -> tuple[Counter[str], list[str]]:
    """Run drawn extremes; return how many ended how, and what ended as none should.

    Args:
        count: how many; 0: all.
        seed: of the draw.
        show: is told of each.
    """
    found, wrong = cases(), []
    chosen = random.Random(seed).sample(found, min(count or len(found), len(found)))
    counts: Counter[str] = Counter()
    for name, contents in chosen:
        how, said = ended(contents)
        counts[how] += 1
        show(f"{how}: {name}: {said}")
        if how == "wrong":
            wrong.append(f"{name}: {said}")
    return counts, wrong


def main(arguments: Sequence[str]) -> int:
    """Try; return whether any ended otherwise."""
    count, seed = (*map(int, arguments), *(0, 0)[len(arguments) :])
    counts, wrong = tried(count, seed)
    print(dict(counts), *wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
