"""A scenario says what runs, with every default; what cannot run is refused with a sentence that helps."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.scenario.load import (
    Scenario,
    ScenarioError,
    dump_toml,
    load_scenario,
    scenario_from_dict,
    shipped,
)
from palimpsest.simulator.scenario.registry import card, names
from palimpsest.simulator.world.cards import Card


def written(tmp_path: Path, text: str) -> Scenario:
    """The scenario of a file with this text."""
    path = tmp_path / "scenario.toml"
    path.write_text(f'name = "x"\n{text}')
    return load_scenario(str(path))


@pytest.mark.parametrize("name", shipped())
def test_what_is_dumped_loads_as_the_same_scenario(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario_from_dict(tomllib.loads(dump_toml(scenario))) == scenario


def test_a_scenario_of_everything_survives_dumping(tmp_path: Path) -> None:
    scenario = written(
        tmp_path,
        """
        seeds = [0, 3]
        [data]
        source = "digits"
        clients = 12
        partition = { scheme = "pathological", classes_per_client = 3 }
        sites = [1, "b"]
        [training]
        sampling = { rate = 0.25 }
        [deletion]
        level = "record"
        [[deletion.request]]
        client = 3
        records = [1, 0]
        [[unlearning]]
        method = "ascent"
        learning_rate = [0.1, 0.5]
        only = ["one"]
        [[unlearning]]
        method = "none"
        [adversary]
        knows = ["labels", "client"]
        [[variant]]
        name = "one"
        model = { kind = "softmax", lambda = 3.0, features = { dimension = 32, bandwidth = 2.5 } }
        training = { clients_per_round = 4 }
        [[variant]]
        name = "two"
        model = { kind = "mlp", hidden = 8 }
        data = { partition = { scheme = "iid" } }
        """,
    )
    assert scenario_from_dict(tomllib.loads(dump_toml(scenario))) == scenario
    one, two = scenario.settings()
    assert (one.model.regularisation, one.model.l2) == (3.0, None)
    assert (two.model.regularisation, two.model.l2) == (None, 0.0)
    assert one.training.sampling is None and one.training.clients_per_round == 4
    assert two.training.sampling is not None and two.training.sampling.rate == 0.25
    assert (one.data.partition.classes_per_client, two.data.partition.scheme) == (3, "iid")
    hrec = next(entry for entry in scenario.attack if entry["kind"] == "hrec")
    assert hrec["only"] == ["one"]  # a default, and a network has no linear head to read


def test_defaults_of_an_almost_empty_scenario() -> None:
    scenario = scenario_from_dict({"name": "x", "data": {"source": "digits", "clients": 7}})
    assert scenario.unlearning == ({"method": "retrain", "coupling": "independent"},)
    assert scenario.defense == ({"kind": "none"},)
    assert [entry["kind"] for entry in scenario.attack] == [
        "hrec",
        "raw-difference",
        "average",
        "max-difference",
        "public-draw",
    ]
    assert scenario.training.clients_per_round == 7  # twenty where there are so many
    assert scenario.model.l2 == 1e-2
    assert load_scenario().training.clients_per_round == 20


def test_baselines_run_beside_every_attack() -> None:
    scenario = scenario_from_dict({"name": "x", "attack": [{"kind": "raw-difference"}]})
    assert [entry["kind"] for entry in scenario.attack] == [
        "raw-difference",
        "average",
        "max-difference",
        "public-draw",
    ]


def test_variants_merge_deeply_and_leave_the_scenario_alone() -> None:
    scenario = scenario_from_dict(
        {
            "name": "x",
            "model": {"kind": "ridge", "l2": 0.5},
            "training": {"rounds": 3, "learning_rate": 0.2},
            "variant": [{"name": "a", "model": {"lambda": 7.0}, "training": {"rounds": 9}}, {"name": "b"}],
        }
    )
    a, b = scenario.settings()
    assert (a.model.kind, a.model.l2, a.model.regularisation) == ("ridge", None, 7.0)
    assert (a.training.rounds, a.training.learning_rate) == (9, 0.2)
    assert (b.model, b.training) == (scenario.model, scenario.training)


def test_settings_from_the_command_line() -> None:
    scenario = load_scenario(
        None, ["data.clients=30", "seeds=[4,5]", "unlearning.0.coupling=reshuffled", "runtime.backend=serial"]
    )
    assert (scenario.data.clients, scenario.seeds) == (30, (4, 5))
    assert all(setting.data.clients == 30 for setting in scenario.settings())
    assert scenario.unlearning[0]["coupling"] == "reshuffled"
    assert scenario.runtime.backend == "serial"
    swept = load_scenario(None, ["unlearning.2.learning_rate=[0.1, 0.2]"])
    assert len(plan(swept).arms) == len(plan(load_scenario()).arms) + 1


def test_a_setting_replaces_its_alternative(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text('name = "x"\n[model]\nl2 = 0.5\n[training]\nclients_per_round = 3\n')
    scenario = load_scenario(str(path), ["model.lambda=4.0", "training.sampling.rate=0.5"])
    assert (scenario.model.l2, scenario.model.regularisation) == (None, 4.0)
    assert scenario.training.clients_per_round == 0


@pytest.mark.parametrize(
    "setting, needed",
    [
        ("data.clients", "KEY=VALUE"),
        ("data.clint=3", "did you mean 'clients'"),
        ("unlearning.9.coupling=same-order", "numbered 0 to"),
        ("model.kind=svm", "set variant.0.model.kind, or"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(setting: str, needed: str) -> None:
    with pytest.raises(ScenarioError, match="^(--set )?" + setting.split("=")[0]) as caught:
        load_scenario(None, [setting])
    assert needed in str(caught.value)


def test_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys, palimpsest.simulator.scenario.load, palimpsest.simulator.planning.plan;"
        "import palimpsest.simulator.planning.requests;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'flwr', 'datasets', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_methods_of_other_packages_are_found_checked_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "elsewhere-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[palimpsest.unlearners]\nforgetful = elsewhere:Forgetful\nbroken = elsewhere:Nothing\n"
    )
    (tmp_path / "elsewhere.py").write_text(
        "from typing import Literal, ClassVar\n"
        "from palimpsest.simulator.world.cards import Card\n"
        "from pydantic import BaseModel\n"
        "class Forgetful(BaseModel, frozen=True, extra='forbid'):\n"
        "    method: Literal['forgetful'] = 'forgetful'\n"
        "    strength: float = 1.5\n"
        "    card: ClassVar[Card] = Card(\n"
        "        summary='forgets slowly', levels=('client',), needs=('single-client messages',)\n"
        "    )\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "forgetful" in names("unlearning")
    assert card("unlearning", "forgetful") == Card(
        target="elsewhere:Forgetful",
        summary="forgets slowly",
        levels=("client",),
        needs=("single-client messages",),
    )
    entry = {"method": "forgetful", "strength": [1.0, 2.0]}
    client = {"name": "x", "deletion": {"level": "client", "requests": 1}, "unlearning": [entry]}
    assert [arm.id for arm in plan(scenario_from_dict(client)).arms] == [
        "forgetful-1--none--seed0",
        "forgetful-2--none--seed0",
    ]
    with pytest.raises(ScenarioError, match=r"unlearning\.0\.method = 'forgetful' .*'record'.* works on client"):
        scenario_from_dict(client | {"deletion": {"level": "record"}})
    with pytest.raises(ScenarioError, match=r"secure_aggregation = true.*single clients"):
        scenario_from_dict(client | {"federation": {"secure_aggregation": True}})
    with pytest.raises(ScenarioError, match=r"'broken'.*cannot be imported"):
        scenario_from_dict(client | {"unlearning": [{"method": "broken"}]})


@pytest.mark.parametrize(
    "nested",
    ["a = " + "[" * 5000 + "]" * 5000, ".".join(["a"] * 5000) + " = 1", "a = " + "{a = " * 3000 + "1" + "}" * 3000],
)
def test_a_scenario_that_is_nested_without_end_is_refused(nested: str, tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(nested)
    with pytest.raises(ScenarioError, match="nested too deeply"):
        load_scenario(tmp_path / "deep.toml")
    path, _, value = nested.partition(" = ")
    with pytest.raises(ScenarioError):
        load_scenario(None, [f"{path}={value}"])


def test_a_byte_order_mark_before_a_scenario_is_read(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_text(dump_toml(load_scenario()), encoding="utf-8-sig")
    assert load_scenario(path) == load_scenario()
