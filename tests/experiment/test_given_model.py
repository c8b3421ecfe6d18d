"""Runs whose network a Python program hands over."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from palimpsest.simulator import resume, run
from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.experiment.given_model import with_model
from palimpsest.simulator.federation.grids import open_grid
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models import given
from palimpsest.simulator.world.models.card import ModelCard
from palimpsest.simulator.world.models.kinds import model_card
from palimpsest.simulator.world.protocols.transcript import Transcript
from tests.support.scenarios import small_scenario, untracked
from tests.support.stores import new_store

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


class Tanh(nn.Module):
    """A layer of the user's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)


class Net(nn.Sequential):
    """A network of the user's own, which takes images."""

    def __init__(self, width: int = 12) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, width), Tanh(), nn.Linear(width, 10))


def of_schema(schema: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(schema.width, 12), Tanh(), nn.Linear(12, schema.outputs))


def scenario(tmp_path: Path, **changes: Any) -> Scenario:
    base: dict[str, Any] = {
        "model": {"kind": "mlp"},
        "unlearning": [{"method": "ascent"}],
        "attack": [{"kind": "inversion", "iterations": 8, "restarts": 1, "polish": 1}, {"kind": "class-score"}],
        "tracking": {"uri": new_store(tmp_path)},
    }
    return small_scenario(**(base | changes))


def test_a_class_is_trained_unlearned_attacked_and_tracked_and_resumed(tmp_path: Path) -> None:
    result = run(scenario(tmp_path), tmp_path / "out", model=Net)
    [arm] = result.results["arms"]
    assert {"inversion", "class-score"} <= set(arm["attacks"])
    assert result.tracked.ok, result.tracked.message
    about = json.loads((tmp_path / "out/provenance.json").read_text())["models"]
    [(kind, said)] = about.items()
    assert kind.startswith("given:Net-") and ".Net, sha256 " in said
    (tmp_path / "out" / "arms" / f"{arm['arm']}.json").unlink()
    again = resume(tmp_path / "out", model=Net)
    assert again.results["arms"][0]["transcript_digest"] == arm["transcript_digest"]
    with pytest.raises(ScenarioError, match=r"the run trains given:Net-\w+, and model = \.\.\. is given too"):
        resume(tmp_path / "out", model=of_schema)


def test_without_the_network_every_command_says_in_one_sentence_that_it_must_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untracked(with_model(scenario(tmp_path, attack=[{"kind": "class-score"}]), Net), tmp_path / "out")
    monkeypatch.setattr(given, "_GIVEN", {})
    [transcript] = (tmp_path / "out/transcripts").iterdir()
    with pytest.raises(ScenarioError, match=r"give the same one again by .*resume\(directory, model=\.\.\.\)"):
        resume(tmp_path / "out")
    for command in (["attack", str(transcript), "--attack", "class-score"], ["resume", str(tmp_path / "out")]):
        refused = CliRunner().invoke(cli.app, command)
        assert refused.exit_code == 2, refused.output
        assert "stands for a network that a Python program handed over" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    reported = CliRunner().invoke(cli.app, ["report", str(tmp_path / "out")])
    assert reported.exit_code == 0, reported.output


def test_a_module_is_where_every_training_begins(tmp_path: Path) -> None:
    module = Net()
    before = {name: value.detach().clone().numpy() for name, value in module.named_parameters()}
    few = scenario(tmp_path, seeds=[0, 1], attack=[{"kind": "class-score"}])
    untracked(with_model(few, module), tmp_path / "out")
    for transcript in (tmp_path / "out/transcripts").iterdir():
        opened = Transcript.open(transcript)
        first = opened.load(next(n for n, line in enumerate(opened.heard) if line.round == 0 and line.branch == 0))
        assert all(np.array_equal(first[name], value) for name, value in before.items())
    assert all(np.array_equal(value.detach().numpy(), before[name]) for name, value in module.named_parameters())


@pytest.mark.ray
def test_hosts_on_ray_and_in_this_process_give_one_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "_GIVEN", {})  # hosts get the network from this run, and from no earlier test
    about = scenario(
        tmp_path,
        training={"rounds": 1, "clients_per_round": 2, "batch_size": 32},
        deletion={"requests": 1},
        attack=[{"kind": "class-score"}],
        evaluation={"retrainings": 0},
    )
    wanted = with_model(about, of_schema)
    with open_grid("ray", 2) as hosts:
        [arm] = RunFiles.open(untracked(wanted, tmp_path / "ray", hosts).path).arms
    [same] = RunFiles.open(untracked(wanted, tmp_path / "serial").path).arms
    assert "class-score" in arm.attacks and "class-score" in same.attacks
    assert arm.transcript_digest == same.transcript_digest


def test_a_network_has_the_name_of_its_source_and_first_parameters() -> None:
    one, other = Net(), Net()
    assert given.remember(Net) == given.remember(Net)
    assert given.remember(one) == given.remember(one)
    assert len({given.remember(kind) for kind in (Net, of_schema, one, other, Net(13))}) == 5
    card = ModelCard(lambda schema, options: Net(), head="3", default_l2=0.5)
    assert model_card(given.remember(card)) is card


def test_what_is_no_network_or_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model is a str; it must be a torch\.nn\.Module"):
        run(scenario(tmp_path), tmp_path / "out", model="mlp")
    with pytest.raises(ModelError, match="of_two takes 2 arguments"):
        run(scenario(tmp_path), tmp_path / "out", model=lambda_of_two())
    with pytest.raises(ModelError, match="BatchNorm1d"):
        normed = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
        run(scenario(tmp_path), tmp_path / "out", model=normed)
    with pytest.raises(ScenarioError, match="hrec"):
        linear = scenario(tmp_path, model={"kind": "softmax"}, attack=[{"kind": "hrec"}])
        run(linear, tmp_path / "out", model=Net)
    variants = [{"name": "a", "model": {"kind": "mlp"}}, {"name": "b", "model": {"kind": "cnn"}}]
    with pytest.raises(ScenarioError, match="the scenario's variants train cnn, mlp"):
        run(scenario(tmp_path, variant=variants), tmp_path / "out", model=Net)
    assert not (tmp_path / "out").exists()


def lambda_of_two() -> Any:
    def of_two(schema: Any, options: Any) -> nn.Module:
        return Net()

    return of_two
