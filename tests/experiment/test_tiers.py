"""What a server hears beyond the releases: written beside the transcript, and no bit of the run changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.scenario.load import ScenarioError
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge, cases_of
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.records import Case
from tests.support.scenarios import small_scenario, untracked

SAME_ORDER = {"method": "retrain", "coupling": "same-order"}
TIERS = ("releases", "aggregate", "updates")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFiles]:
    """The same two deletions, as each adversary sees them; the ascent by the server where single messages are."""
    found = {}
    for tier in TIERS:
        methods: list[dict[str, Any]] = [
            SAME_ORDER,
            {"method": "local-ascent"},
            *([] if tier == "aggregate" else [{"method": "ascent"}]),
        ]
        done = untracked(
            small_scenario(adversary={"sees": tier}, unlearning=methods), tmp_path_factory.mktemp(tier) / "run"
        )
        found[tier] = RunFiles.open(done.path)
    return found


def cases(run: RunFiles, method: str) -> list[Case]:
    [arm] = [arm for arm in run.arms if arm.unlearning.method == method]
    directory = run.files(arm).transcript
    return cases_of(Transcript.open(directory), PublicKnowledge.open(directory / "knowledge.json").facts)


def test_what_a_server_hears_changes_no_transcript(runs: dict[str, RunFiles]) -> None:
    digests = {tier: {arm.unlearning.method: arm.transcript_digest for arm in runs[tier].arms} for tier in TIERS}
    assert digests["updates"] == digests["releases"]
    assert digests["aggregate"]["retrain"] == digests["releases"]["retrain"]
    assert all(not case.messages for case in cases(runs["releases"], "retrain"))


def test_single_updates_average_to_the_next_release(runs: dict[str, RunFiles]) -> None:
    for case in cases(runs["updates"], "retrain"):
        for phase, models in (("training", case.trunk), ("unlearning", case.branch)):
            for round in range(3):
                heard = [m for m in case.messages if m.phase == phase and m.round == round]
                assert len(heard) == 3
                assert all(len(message.clients) == 1 for message in heard)
                for name, start in models[round].items():
                    weight = sum(message.weight for message in heard)
                    mean = sum(message.weight * message.sent[name].astype(float) for message in heard) / weight
                    assert np.array_equal(heard[0].start[name], start)
                    assert np.allclose(start + mean, models[round + 1][name], atol=1e-6)


def test_under_secure_aggregation_only_the_sum_is_heard(runs: dict[str, RunFiles]) -> None:
    for whole, single in zip(cases(runs["aggregate"], "retrain"), cases(runs["updates"], "retrain"), strict=True):
        assert len(whole.messages) == 3 + 3
        assert {len(message.clients) for message in whole.messages} == {3}
        parts = [m for m in single.messages if m.phase == "training" and m.round == 0]
        assert whole.messages[0].clients == tuple(client for part in parts for client in part.clients)
        assert whole.messages[0].weight == sum(part.weight for part in parts)


def test_an_ascent_is_the_leavers_own_gradient(runs: dict[str, RunFiles]) -> None:
    for case in cases(runs["updates"], "ascent"):
        [heard] = [message for message in case.messages if message.phase == "unlearning"]
        assert (heard.kind, heard.about, heard.clients, heard.weight) == ("gradient", "forgotten", case.clients, 1.0)
        for name, value in case.after.items():
            assert np.allclose(heard.start[name] + 0.05 * heard.sent[name], value, atol=1e-6)


def test_a_leaver_that_ascends_by_itself_is_one_message_among_the_rounds(runs: dict[str, RunFiles]) -> None:
    for single, whole in zip(*(cases(runs[tier], "local-ascent") for tier in ("updates", "aggregate")), strict=True):
        heard = [m for m in single.messages if m.phase == "unlearning"]
        [alone] = [m for m in heard if m.about == "forgotten"]
        assert (alone.kind, alone.clients) == ("update", single.clients)
        [total] = [m for m in whole.messages if m.phase == "unlearning"]
        assert set(total.clients) == {client for message in heard for client in message.clients}
        for name, value in single.after.items():
            mean = sum(m.weight * m.sent[name].astype(float) for m in heard) / total.weight
            assert np.allclose(alone.start[name] + mean, value, atol=1e-6)
            assert np.allclose(total.sent[name], mean, atol=1e-6)


def test_gradients_of_single_clients_add_up_to_the_round(tmp_path: Path) -> None:
    training = {"algorithm": "fedsgd", "rounds": 2, "clients_per_round": 3, "learning_rate": 0.1}
    changes: dict[str, Any] = {
        "model": {"kind": "softmax", "l2": 0.0},
        "training": training,
        "unlearning": [SAME_ORDER],
    }
    untracked(small_scenario(**changes, adversary={"sees": "updates"}), tmp_path / "updates")
    untracked(small_scenario(**changes), tmp_path / "releases")
    heard, unheard = (RunFiles.open(tmp_path / name) for name in ("updates", "releases"))
    assert heard.arms[0].transcript_digest == unheard.arms[0].transcript_digest
    assert heard.arms[0].cost.client_updates == unheard.arms[0].cost.client_updates
    case = cases(heard, "retrain")[0]
    parts = [m for m in case.messages if m.phase == "training" and m.round == 0]
    total, weight = sum(m.sent["bias"] for m in parts), sum(m.weight for m in parts)
    assert len(parts) == 3
    assert np.allclose(case.trunk[1]["bias"], case.trunk[0]["bias"] - 0.1 * total / weight, atol=1e-6)


REFUSED = {
    "sums only": (
        {"adversary": {"sees": "updates"}, "federation": {"secure_aggregation": True}},
        ["adversary.sees = 'updates'", "secure_aggregation = true", "take sees = 'aggregate'"],
    ),
    "a single message under secure aggregation": (
        {"adversary": {"sees": "aggregate"}, "unlearning": [{"method": "ascent"}]},
        ["'ascent'", "adversary.sees = 'aggregate'", "a message of the leaver alone", "sees = 'updates'"],
    ),
    "a secret draw": (
        {
            "adversary": {"sees": "updates"},
            "privacy": {"sampling_is_secret": True},
            "defense": [{"kind": "dp-sgd", "noise_multiplier": 1.0}],
            "unlearning": [{"method": "finetune"}],
        },
        ["adversary.sees = 'updates'", "sampling_is_secret = true", "knows who took part"],
    ),
    "noise of the server's own": (
        {
            "adversary": {"sees": "aggregate"},
            "defense": [{"kind": "central-dp", "noise_multiplier": 1.0}],
            "unlearning": [{"method": "finetune"}],
        },
        ["adversary.sees = 'aggregate'", "'central-dp'", "adds that noise itself"],
    ),
    "an optimum": (
        {"adversary": {"sees": "updates"}, "training": {"algorithm": "lbfgs"}},
        ["adversary.sees = 'updates'", "training.algorithm = 'lbfgs'", "take fedavg, fedsgd"],
    ),
    "a chain": (
        {"adversary": {"sees": "updates"}, "deletion": {"pattern": "sequential", "requests": 2}},
        ["adversary.sees = 'updates'", "deletion.pattern = 'sequential'", "take pattern = 'independent'"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_server_cannot_see_or_voids_is_refused(case: str) -> None:
    changes, words = REFUSED[case]
    with pytest.raises(ScenarioError) as told:
        small_scenario(**changes)
    for word in words:
        assert word in str(told.value)
