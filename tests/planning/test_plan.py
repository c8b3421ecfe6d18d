"""Arms are the product of what varies, each with an id of its own; arms that share a training are together."""

import pytest

from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.scenario.entries import BASELINES
from palimpsest.simulator.scenario.load import ScenarioError, load_scenario, scenario_from_dict


def test_arms_of_the_default_scenario_in_order() -> None:
    outline = plan(load_scenario(None, ["seeds=[0,2]"]))
    of_softmax = ["retrain-same-order", "retrain-independent", "ascent", "none"]
    assert [arm.id for arm in outline.arms] == [
        *(f"softmax--{how}--none--seed{seed}" for seed in (0, 2) for how in of_softmax),
        *(f"ridge--downdate--none--seed{seed}" for seed in (0, 2)),
    ]


def test_a_prefix_holds_the_arms_of_one_training() -> None:
    outline = plan(load_scenario(None, ["seeds=[0,2]"]))
    assert [(prefix.setting.variant, prefix.seed, len(prefix.arms)) for prefix in outline.prefixes] == [
        ("softmax", 0, 4), ("softmax", 2, 4), ("ridge", 0, 1), ("ridge", 2, 1),
    ]  # fmt: skip
    for prefix in outline.prefixes:
        assert all((arm.setting, arm.seed) == (prefix.setting, prefix.seed) for arm in prefix.arms)


def test_a_list_where_a_number_is_meant_is_one_arm_each_and_only_what_varies_is_named() -> None:
    entry = {"method": "ascent", "learning_rate": [0.5, 1e-5], "steps": [1, 2], "max_distance": 3.0}
    arms = plan(scenario_from_dict({"name": "x", "unlearning": [entry, {"method": "none"}]})).arms
    assert [arm.id for arm in arms] == [
        "ascent-0.5-1--none--seed0",
        "ascent-0.5-2--none--seed0",
        "ascent-1e-05-1--none--seed0",
        "ascent-1e-05-2--none--seed0",
        "none--none--seed0",
    ]
    settings = [(arm.unlearning.learning_rate, arm.unlearning.steps, arm.unlearning.max_distance) for arm in arms[:4]]
    assert settings == [(0.5, 1, 3.0), (0.5, 2, 3.0), (1e-5, 1, 3.0), (1e-5, 2, 3.0)]


def test_ids_are_unique_whatever_is_swept() -> None:
    rates = [0.1, 1e-5, 1e5, 1.0]
    entries = [{"method": "ascent", "learning_rate": rates}, {"method": "retrain"}, {"method": "none"}]
    content = {
        "name": "x",
        "seeds": [1, 11],
        "unlearning": entries,
        "variant": [{"name": "a"}, {"name": "a-1", "training": {"rounds": 7}}],
    }
    ids = [arm.id for arm in plan(scenario_from_dict(content)).arms]
    assert len(ids) == len(set(ids)) == 2 * 2 * 6


def test_arms_that_are_the_same_are_refused() -> None:
    twice = {"name": "x", "unlearning": [{"method": "none"}, {"method": "none"}]}
    with pytest.raises(ScenarioError, match=r"'none--none--seed0'.*twice.*remove one"):
        plan(scenario_from_dict(twice))


def test_the_same_method_for_different_variants_is_no_repetition() -> None:
    content = {
        "name": "x",
        "variant": [{"name": "a"}, {"name": "b"}],
        "unlearning": [{"method": "none", "only": ["a"]}, {"method": "none", "only": ["b"]}],
    }
    assert [arm.id for arm in plan(scenario_from_dict(content)).arms] == [
        "a--none--none--seed0",
        "b--none--none--seed0",
    ]


def test_attacks_of_an_arm_are_those_for_its_variant() -> None:
    content = {
        "name": "x",
        "variant": [{"name": "a"}, {"name": "b", "model": {"kind": "cnn"}}],
        "data": {"source": "digits"},
    }
    a, b = plan(scenario_from_dict(content)).arms
    assert [attack.kind for attack in a.attacks] == [
        "hrec",
        "raw-difference",
        "average",
        "max-difference",
        "public-draw",
    ]
    assert [attack.kind for attack in b.attacks] == list(BASELINES)


def test_the_shipped_tradeoff_goes_from_no_noise_to_the_guarantee_in_ten_steps() -> None:
    """Of each way of unlearning; a retraining with every coupling that tells coins from noise."""
    strengths: dict[str, set[float]] = {}
    for prefix in plan(load_scenario("dp-tradeoff")).prefixes:
        for arm in prefix.arms:
            rule, defense = arm.unlearning.model_dump(), arm.defense.model_dump()
            way = rule["method"] + (f" {rule['coupling']}" if "coupling" in rule else "")
            strengths.setdefault(way, set()).add(defense.get("noise_multiplier", defense.get("sigma", 0.0)))
    couplings = {f"retrain {coupling}" for coupling in ("same-order", "same-coins", "same-noise")}
    assert set(strengths) == {"ascent", "downdate", "newton", *couplings}
    assert all(0.0 in noises and len(noises) > 10 for noises in strengths.values())
