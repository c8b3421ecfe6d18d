"""``palimpsest audit-dp``: it reaches what is claimed, holds its intervals, and finds planted errors."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from palimpsest.defenses.accountant import epsilon
from palimpsest.defenses.central_dp import CentralDp
from palimpsest.defenses.dp_sgd import DpSgd
from palimpsest.defenses.dp_statistics import DpStatistics
from palimpsest.defenses.output_perturbation import OutputPerturbation
from palimpsest.server.setup import Setup, TrainingPlan
from palimpsest.simulator.audit.privacy import games
from palimpsest.simulator.audit.privacy.claims import Audited, AuditRow, Claim, PrivacyAudit, audited, in_one_run
from palimpsest.simulator.audit.privacy.estimate import gaussian_epsilon, loss_of, one_run_epsilon
from palimpsest.simulator.audit.privacy.mechanisms import game_of, standard
from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.cli.audit_dp import _conclude, _of_mechanisms, table
from palimpsest.simulator.cli.console import OUT
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.defense import Memory, Round, Solved
from palimpsest.simulator.world.protocols.federation import BlockResult, Statistics
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelSpec, PrivateSteps, Recipe

DELTA, TRIALS = 1e-5, 10_000


def test_mu_is_within_its_interval_and_both_ends_are_near() -> None:
    rng = np.random.default_rng(0)
    for mu in (0.3, 1.0, 3.0):
        loss = loss_of(rng.standard_normal(TRIALS), mu + rng.standard_normal(TRIALS), DELTA)
        assert loss.mu_low < mu < loss.mu_high < loss.mu_low + 0.35
        assert loss.direct < gaussian_epsilon(mu, DELTA)
    assert loss_of(rng.standard_normal(TRIALS), rng.standard_normal(TRIALS), DELTA).mu_low == 0.0


def test_one_run_with_every_guess_right_is_a_binomial_tail() -> None:
    """Pure privacy: p = (e^eps / (1 + e^eps))^r; and a delta that is counted lowers it."""
    share = 0.05 ** (1.0 / 100.0)
    assert one_run_epsilon(100, 100, 1000, 0.0) == pytest.approx(math.log(share / (1.0 - share)), abs=1e-4)
    assert one_run_epsilon(100, 100, 1000, 1e-5) < one_run_epsilon(100, 100, 1000, 0.0)
    assert one_run_epsilon(50, 100, 1000, 1e-5) == 0.0


def _rows(mechanisms: Sequence[Audited], trials: int = TRIALS, claim: Claim | None = None) -> tuple[AuditRow, ...]:
    return audited(mechanisms, DELTA, trials, 0, claim=claim)


def test_canaries_lose_what_is_claimed_at_epsilon_4() -> None:
    """At least 0.8 of it with 95 % confidence, for one release and for ten rounds; one run shows less."""
    wanted = ("dp-sgd, one release", "dp-sgd, ten rounds", "central-dp, one round", "central-dp, ten rounds")
    rows = _rows([one for one in standard(4.0, DELTA, "tightest") if one.name in wanted])
    assert [row.name for row in rows] == list(wanted)
    for row in rows:
        assert row.verdict == "holds"
        assert 0.8 * row.claimed < row.low < row.claimed < row.high
        assert row.direct < row.low
    run = in_one_run(DpSgd(noise_multiplier=1.07), DELTA, 600, 0, "tightest")
    assert 0.3 < run.low < run.claimed


def test_sampled_rounds_and_bounds_that_are_not_reached_hold() -> None:
    rows = _rows(
        [one for one in standard(4.0, DELTA, "tightest") if "batches" in one.name or "statis" in one.name], 2000
    )
    assert [(row.verdict, row.sampled) for row in rows] == [("holds", True), ("holds", False)]


class _LessNoise:
    """A source whose noise is too small, or too large."""

    def __init__(self, noise: Noise, factor: float) -> None:
        self.noise, self.factor = noise, factor

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        return self.factor * self.noise.standard_normal(size)

    def random(self, size: tuple[int, ...]) -> Array:
        return self.noise.random(size)


class _WrongDpSgd(DpSgd):
    factor: float = 0.5

    def local_training(self, recipe: Recipe) -> Recipe:
        how = PrivateSteps(clip=self.clip, noise_multiplier=self.factor * self.sigma)
        return recipe.model_copy(update={"private": how})


class _WrongCentral(CentralDp):
    factor: float = 0.5

    def aggregate(self, total: BlockResult, about: Round) -> tuple[BlockResult, Memory]:
        return super().aggregate(total, Round(about.expected, _LessNoise(about.noise, self.factor), about.memory))


class _WrongStatistics(DpStatistics):
    factor: float = 0.5

    def statistics(self, exact: Statistics, spec: ModelSpec, noise: Noise) -> Statistics:
        return super().statistics(exact, spec, _LessNoise(noise, self.factor))


class _WrongOutput(OutputPerturbation):
    factor: float = 0.5

    def solution(self, model: Params, about: Solved) -> Params:
        return super().solution(
            model, Solved(about.spec, about.records, about.gradient_norm, _LessNoise(about.noise, self.factor))
        )


def _planted(factor: float) -> list[Audited]:
    how: dict[str, Any] = {"noise_multiplier": 1.1, "factor": factor}
    return [
        Audited("client", games.LocalSteps(_WrongDpSgd(**how), rounds=2)),
        Audited("gradient", games.PrivateSums(_WrongDpSgd(**how))),
        Audited("aggregation", games.NoisedAverages(_WrongCentral(**how), rounds=3)),
        Audited("output", games.NoisedSolutions(_WrongOutput(**how))),
        Audited("statistics", games.NoisedStatistics(_WrongStatistics(**how))),
    ]


def test_half_the_noise_is_refuted_at_every_place() -> None:
    found = {row.name: row.verdict for row in _rows(_planted(0.5), 4000)}
    assert found == dict.fromkeys(("client", "gradient", "aggregation", "output", "statistics"), "refuted")


def test_twice_the_noise_is_loose_wherever_a_canary_loses_all_that_is_claimed() -> None:
    verdicts = {row.name: row.verdict for row in _rows(_planted(2.0), 4000)}
    assert verdicts.pop("statistics") == "holds"
    assert set(verdicts.values()) == {"loose"}


def test_an_accountant_that_is_wrong_by_a_factor_of_two_is_found_out() -> None:
    right = _planted(1.0)[:4]
    assert {row.verdict for row in _rows(right, 4000)} == {"holds"}
    assert {row.verdict for row in _rows(right, 4000, lambda paid, at: epsilon(paid, at) / 2.0)} == {"refuted"}
    assert {row.verdict for row in _rows(right, 4000, lambda paid, at: epsilon(paid, at) * 2.0)} == {"loose"}


def test_a_canary_pays_what_the_arm_paid() -> None:
    """Sampled rounds of a training, and a gradient on top: the game charges just that."""
    plan = TrainingPlan(algorithm="fedavg", rounds=3, clients_per_round=2, recipe=Recipe(batch_size=5, local_epochs=2))
    setup = Setup(games.SPEC, plan, np.array([15, 15]))
    spending = {(1.3, 1.0 / 3.0): 18, (1.3, 1.0): 1}
    assert game_of(DpSgd(noise_multiplier=1.3), setup, spending).spending == spending
    assert game_of(CentralDp(noise_multiplier=2.0), setup, {(2.0, 0.25): 4}).spending == {(2.0, 0.25): 4}


def test_steps_that_are_no_whole_rounds_are_refused() -> None:
    plan = TrainingPlan(algorithm="fedavg", rounds=3, clients_per_round=2, recipe=Recipe(batch_size=5, local_epochs=2))
    setup = Setup(games.SPEC, plan, np.array([15, 15]))
    with pytest.raises(ScenarioError, match="has paid for 20 sampled steps, and a round has 6: whole rounds alone"):
        game_of(DpSgd(noise_multiplier=1.3), setup, {(1.3, 1.0 / 3.0): 20})


def test_what_was_read_without_noise_is_no_game_of_the_defense() -> None:
    """``same-noise`` is charged as a reading at noise 0."""
    setup = Setup(games.SPEC, TrainingPlan(algorithm="fedsgd", rounds=10), np.array([15, 15]))
    with pytest.raises(ScenarioError, match="has paid 1 steps at noise 0 and rate 1, 10 steps at noise 2 and rate 1"):
        game_of(DpSgd(noise_multiplier=2.0), setup, {(2.0, 1.0): 10, (0.0, 1.0): 1})
    with pytest.raises(ScenarioError, match="would pay 10 steps at noise 2 and rate 1"):
        game_of(DpSgd(noise_multiplier=2.0), setup, {(1.0, 1.0): 10})


SCENARIO = """
name = "small"
seeds = [0]
[data]
source = "digits"
clients = 4
[model]
kind = "softmax"
[training]
algorithm = "fedavg"
rounds = 2
clients_per_round = 4
[deletion]
level = "record"
requests = 1
[[unlearning]]
method = "retrain"
[[defense]]
kind = "none"
[[defense]]
kind = "central-dp"
noise_multiplier = 2.5
[[attack]]
kind = "hrec"
"""


def test_every_private_arm_of_a_scenario_is_audited(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SCENARIO)
    out = tmp_path / "audit.json"
    arguments = ["audit-dp", str(tmp_path / "small.toml"), "--trials", "2000", "--out", str(out)]
    done = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert "every claim holds" in done.output
    assert max(map(len, done.stdout.splitlines()[:-2])) <= 80
    found = PrivacyAudit.model_validate_json(out.read_text())
    assert [row.arms for row in found.rows] == [("retrain--central-dp--seed0",)]
    assert found.rows[0].claimed == pytest.approx(epsilon({(2.5, 1.0): 4}, json.loads(out.read_text())["delta"]))


def test_an_arm_that_repeats_its_noise_claims_nothing(tmp_path: Path) -> None:
    """The arm beside it, which draws its own, is audited."""
    (tmp_path / "small.toml").write_text(SCENARIO)
    out = tmp_path / "audit.json"
    arms = 'unlearning=[{method="retrain"},{method="retrain",coupling="same-noise"}]'
    arguments = ["audit-dp", str(tmp_path / "small.toml"), "--trials", "2000", "--out", str(out), "--set", arms]
    done = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert [row["verdict"] for row in found["rows"]] == ["holds"]
    [bare] = found["unclaimed"]
    assert "same-noise" in bare["name"] and bare["arms"] not in [row["arms"] for row in found["rows"]]
    assert "no claim" in done.stdout
    assert f"no privacy is claimed for {bare['name']}: some of what was broadcast" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", 'defense=[{kind="none"}]'], "no arm of the scenario is under a defense that claims"),
        (["--out", "nowhere/at/all.json"], "there is no directory"),
    ],
)
def test_what_cannot_be_audited_is_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "small.toml").write_text(SCENARIO)
    done = CliRunner().invoke(cli.app, ["audit-dp", str(tmp_path / "small.toml"), *arguments])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_a_refuted_claim_ends_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    rows = _rows(_planted(0.5)[1:2], 4000)
    with pytest.raises(typer.Exit) as ended:
        _conclude(PrivacyAudit(delta=DELTA, accountant="tightest", seed=0, rows=rows))
    assert ended.value.exit_code == 1
    assert "more privacy is lost than is claimed by gradient" in " ".join(capsys.readouterr().err.split())


def test_what_separates_all_trials_has_no_upper_end_and_is_read_back() -> None:
    rows = _rows([Audited("bare", games.PrivateSums(DpSgd(noise_multiplier=0.01)))], 2000)
    assert rows[0].high is None and rows[0].verdict == "holds"
    found = PrivacyAudit(delta=DELTA, accountant="tightest", seed=0, rows=rows)
    assert PrivacyAudit.model_validate_json(found.model_dump_json()) == found
    with OUT.capture() as shown:
        OUT.print(table(found))
    assert f"above {rows[0].low:.2f}" in shown.get()


def test_the_rows_and_the_audit_in_one_run_share_5_percent() -> None:
    """Ten claims: each interval errs with half a percent at most."""
    found = _of_mechanisms(4.0, DELTA, 2000, 0)
    [run], first = found.one_run, standard(4.0, DELTA, "tightest")[0].game
    assert len(found.rows) == 9
    assert run.low == one_run_epsilon(run.correct, run.guesses, run.canaries, DELTA, 0.005)
    rng = generator(0, "privacy-audit", 0)
    absent, present = (first.scores(there, 2000, rng) for there in (False, True))
    assert found.rows[0].low == gaussian_epsilon(loss_of(absent, present, DELTA, 0.005).mu_low, DELTA)
