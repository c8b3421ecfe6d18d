"""Ways of unlearning that cannot run, or would not keep their promise, are refused when a scenario is loaded."""

from pathlib import Path

import pytest

from palimpsest.simulator.experiment.runner import prepare
from palimpsest.simulator.scenario.load import ScenarioError, load_scenario
from palimpsest.simulator.world.errors import DataError


def _load(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(f'name = "x"\n{text}')
    load_scenario(str(path))


def _method(name: str) -> str:
    return f'\n[[unlearning]]\nmethod = "{name}"'


SHARDS = "[training]\nshards = 3\n"
REFUSED = {
    "a precision that nobody knows": ('[runtime]\nprecision = "high"', ["runtime.precision", "highest", "medium"]),
    "a precision of nothing": (
        '[runtime]\nprecision = "medium"\n[training]\nalgorithm = "lbfgs"',
        ["runtime.precision = 'medium'", "'lbfgs'", "float64", "take 'highest'"],
    ),
    "bfloat16 of written-out gradients": (
        '[runtime]\nprecision = "bfloat16"',
        ["runtime.precision = 'bfloat16'", "model.kind = 'softmax'", "take 'medium'", "convnet", "resnet18"],
    ),
    "rounded gradients and a bound on their length": (
        '[runtime]\nprecision = "medium"\n[[defense]]\nkind = "dp-sgd"\nnoise_multiplier = 1.0',
        ["runtime.precision = 'medium'", "defense.0.kind = 'dp-sgd'", "take precision = 'highest'"],
    ),
    "rounded gradients in a stack": (
        '[runtime]\nprecision = "medium"\n[[defense]]\nkind = "stack"\n'
        'of = [{ kind = "dp-sgd", noise_multiplier = 1.0 }, { kind = "rounding" }]',
        ["runtime.precision = 'medium'", "'dp-sgd'"],
    ),
    "rounded steps and a certificate": (
        '[runtime]\nprecision = "medium"\n[deletion]\nlevel = "client"\n' + _method("sifu"),
        ["runtime.precision = 'medium'", "unlearning.0.method = 'sifu'", "one of retrain"],
    ),
    "sharded without shards": (_method("sharded"), ["'sharded'", "training.shards = 1", "2 or more", "rollback"]),
    "training on from a merged model": (
        SHARDS + _method("finetune"),
        ["'finetune'", "training.shards = 3", "merged at release only", "sharded, retrain, none"],
    ),
    "rollback of shards": (SHARDS + _method("rollback"), ["'rollback'", "training.shards = 3", "take sharded"]),
    "stored updates of shards": (
        SHARDS + '[deletion]\nlevel = "client"\n' + _method("federaser"),
        ["'federaser'", "training.shards = 3", "take sharded"],
    ),
    "shards of an optimum": (
        '[training]\nshards = 3\nalgorithm = "lbfgs"',
        ["training.shards = 3", "training.algorithm = 'lbfgs'", "fixed number of rounds", "take fedavg or fedsgd"],
    ),
    "shards with a server's velocity": (
        '[training]\nshards = 3\nalgorithm = "fedsgd"\nmomentum = 0.9\n' + _method("sharded"),
        ["'sharded'", "training.momentum = 0.9", "take momentum = 0"],
    ),
    "more shards than clients": ("[data]\nclients = 2\n" + SHARDS, ["training.shards = 3", "data.clients = 2"]),
    "more shards than seats": (
        "[training]\nshards = 5\nclients_per_round = 4",
        ["training.shards = 5", "training.clients_per_round = 4", "at least 5"],
    ),
    "shards and unseen rounds": (
        SHARDS + "[deletion]\nrounds_between = 2\n" + _method("sharded"),
        ["training.shards = 3", "deletion.rounds_between = 2", "take pattern = 'sequential'", "rounds_between = 0"],
    ),
    "a linear model has no layers to break": (_method("not"), ["'not'", "model.kind = 'softmax'", "mlp, cnn"]),
    "single gradients under secure aggregation": (
        '[deletion]\nlevel = "client"\n[federation]\nsecure_aggregation = true\n' + _method("fedosd"),
        ["'fedosd'", "secure_aggregation = true", "take retrain"],
    ),
    "stored updates of a stream": (
        '[deletion]\nlevel = "client"\npattern = "sequential"\n' + _method("fedrecovery"),
        ["'fedrecovery'", "deletion.pattern = 'sequential'", "take pattern = 'independent'"],
    ),
    "two lengths of local training": (
        "[training]\nlocal_steps = 5\nlocal_epochs = 2",
        ["training.local_steps = 5", "local_epochs = 2", "give one"],
    ),
    "local steps of full gradients": (
        '[training]\nlocal_steps = 5\nalgorithm = "fedsgd"',
        ["training.local_steps = 5", "'fedavg', not 'fedsgd'"],
    ),
}
LEAVES = '[deletion]\nlevel = "client"\npattern = "sequential"\n[[deletion.request]]\nclient = 3\n'
REFUSED |= {
    "coming back to a branch": (
        '[deletion]\nlevel = "client"\n[[deletion.request]]\nclient = 3\nround = 2\nrejoin = 5',
        ["deletion.request.0.rejoin = 5", "pattern = 'sequential'"],
    ),
    "coming back before leaving": (LEAVES + "round = 5\nrejoin = 5", ["request.0.rejoin = 5", "round = 5"]),
    "coming back after leaving last": (LEAVES + "rejoin = 5", ["request.0.rejoin = 5", "round = 0"]),
    "coming back too late": (LEAVES + "round = 5\nrejoin = 25", ["request.0.rejoin = 25", "at most 20", "(0: never)"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_sentence_that_says_what_would_work(tmp_path: Path, name: str) -> None:
    text, parts = REFUSED[name]
    with pytest.raises(ScenarioError) as refusal:
        _load(tmp_path, text)
    message = str(refusal.value)
    assert "\n" not in message
    assert not [part for part in parts if part not in message], message


ACCEPTED = {
    "sharded beside its references": SHARDS + _method("sharded") + _method("retrain") + _method("none"),
    "shards whose clients are all drawn": "[training]\nshards = 3\nclients_per_round = 0\n" + _method("sharded"),
    "shards under secure aggregation": SHARDS
    + _method("sharded")
    + "\n[federation]\nsecure_aggregation = true\n[deletion]\nleaver_online = false",
    "coming back": LEAVES + "round = 5\nrejoin = 8\n" + _method("rollback"),
    "a chain of requests to shards": SHARDS + '[deletion]\npattern = "sequential"\n' + _method("sharded"),
    "a record's own rollback": "[training]\nlocal_steps = 5\n" + _method("rollback"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_it_is_accepted(tmp_path: Path, name: str) -> None:
    _load(tmp_path, ACCEPTED[name])


@pytest.mark.parametrize("kind", ["class-score", "probing", "probing-top1", "probing-label"])
def test_attacks_on_classes_are_refused_where_there_are_none_before_anything_is_trained(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(f"""name = "x"
[data]
source = "diabetes"
clients = 5
partition.scheme = "iid"
[model]
kind = "ridge"
[training]
algorithm = "closed-form"
[[attack]]
kind = "{kind}"
""")
    with pytest.raises(DataError) as refusal:
        prepare(load_scenario(str(path)))
    why, way_out = str(refusal.value).split(": ")
    assert why == f"attack '{kind}' needs classes, but diabetes has a real-valued target"
    assert way_out == "take an attack that answers with records"
