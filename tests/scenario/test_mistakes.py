"""Every mistake in a scenario is refused with one sentence: key, value and remedy."""

from pathlib import Path

import pytest

from palimpsest.simulator.scenario.load import (
    Scenario,
    ScenarioError,
    load_scenario,
    scenario_from_dict,
)


def written(tmp_path: Path, text: str) -> Scenario:
    """The scenario of a file with this text."""
    path = tmp_path / "scenario.toml"
    path.write_text(f'name = "x"\n{text}')
    return load_scenario(str(path))


MISTAKES = {
    "unknown key": ("[training]\nround = 3", ["training.round", "did you mean 'rounds'"]),
    "relearning beside nothing": (
        "[evaluation]\nretrainings = 0\nrelearning = 3",
        ["evaluation", "relearning = 3", "retrainings = 1 or more"],
    ),
    "unknown section": ("[trainig]\nrounds = 3", ["trainig", "did you mean 'training'"]),
    "negative": ("[training]\nrounds = -3", ["training.rounds = -3", "at least 1"]),
    "text for a number": ('[training]\nrounds = "3"', ['training.rounds = "3"', "whole number"]),
    "fraction for a number": ("[training]\nrounds = 3.5", ["training.rounds = 3.5", "whole number"]),
    "truth for a number": ("[training]\nrounds = true", ["training.rounds = true", "whole number"]),
    "no number": ("[training]\nlearning_rate = nan", ["training.learning_rate = nan", "finite"]),
    "infinite": ("[model]\nl2 = inf", ["model.l2 = inf", "finite"]),
    "a date": ("[training]\nrounds = 2026-01-01", ["training.rounds", "a number"]),
    "table for a list": ('[unlearning]\nmethod = "retrain"', ["unlearning", "[[unlearning]]"]),
    "text for a table": ('data = "mnist5k"', ["data", "table"]),
    "two lambdas": ("[model]\nl2 = 0.1\nlambda = 1.0", ["model.l2 = 0.1", "lambda = 1.0", "not both"]),
    "unknown model": ('[model]\nkind = "logistic"', ['model.kind = "logistic"', "softmax"]),
    "no such bandwidth": ('[model]\nfeatures = { bandwidth = "mean" }', ["model.features.bandwidth", "median"]),
    "hidden layer of nothing": ("[model]\nhidden = 3", ["model.hidden = 3", "mlp", "leave it out"]),
    "two samplings": (
        "[training]\nclients_per_round = 5\nsampling = { rate = 0.2 }",
        ["training.clients_per_round = 5", "sampling", "give one"],
    ),
    "sampling without rate": ("[training]\nsampling = {}", ["training.sampling.rate", "missing"]),
    "unknown data set": ('[data]\nsource = "minst5k"', ["data.source", "did you mean 'mnist5k'"]),
    "backdoor without a place": (
        "[data.backdoor]\ntarget = 3",
        ["data.backdoor.patch", "columns", "give one of the two"],
    ),
    "no share": (
        "[data.backdoor]\npatch = [0, 0, 2, 2]\nshare = 0.0",
        ["data.backdoor.share = 0.0", "must be above 0"],
    ),
    "no such file": ('[data]\nsource = "nowhere.npz"', ["data.source", "no file 'nowhere.npz'"]),
    "fraction above 1": ("[data]\ntest_fraction = 1.2", ["data.test_fraction = 1.2", "below 1"]),
    "fractions too large": (
        "[data]\ntest_fraction = 0.7\npublic_fraction = 0.4",
        ["test_fraction = 0.7", "public_fraction = 0.4", "below 1"],
    ),
    "alpha of iid": (
        '[data]\npartition = { scheme = "iid", alpha = 0.1 }',
        ["data.partition.alpha = 0.1", "dirichlet", "leave it out"],
    ),
    "clients of natural": (
        '[data]\nclients = 10\npartition = { scheme = "natural" }',
        ["data.clients = 10", "natural", "sites"],
    ),
    "unknown method": ('[[unlearning]]\nmethod = "retrian"', ["unlearning.0.method", "did you mean 'retrain'"]),
    "kind for method": ('[[unlearning]]\nkind = "retrain"', ["unlearning.0.method is missing", "retrain"]),
    "unknown hyper-parameter": (
        '[[unlearning]]\nmethod = "ascent"\nlearning_rat = 0.1',
        ["unlearning.0.learning_rat", "did you mean 'learning_rate'"],
    ),
    "hyper-parameter out of range": (
        '[[unlearning]]\nmethod = "ascent"\nlearning_rate = -1',
        ["unlearning.0.learning_rate = -1", "above 0"],
    ),
    "hyper-parameter of a wrong type": (
        '[[unlearning]]\nmethod = "ascent"\nlearning_rate = [0.1, "a"]',
        ['unlearning.0.learning_rate = "a"', "number"],
    ),
    "empty sweep": ('[[unlearning]]\nmethod = "ascent"\nsteps = []', ["unlearning.0.steps = []", "at least one"]),
    "unknown choice": (
        '[[unlearning]]\nmethod = "retrain"\ncoupling = "same"',
        ['unlearning.0.coupling = "same"', "'same-order', 'same-coins', 'same-noise', 'reshuffled', 'independent'"],
    ),
    "swept attack": ('[[attack]]\nkind = "hrec"\noperator = ["auto", "identity"]', ["attack.0.operator", "single"]),
    "attack twice": ('[[attack]]\nkind = "hrec"\n[[attack]]\nkind = "hrec"', ["'hrec'", "twice"]),
    "attack on a model it cannot": (
        '[model]\nkind = "cnn"\n[[attack]]\nkind = "hrec"',
        ["attack.0.kind = 'hrec'", "'cnn'", "softmax"],
    ),
    "downdate without statistics": (
        '[model]\nkind = "ridge"\n[[unlearning]]\nmethod = "downdate"',
        ["unlearning.0.method = 'downdate'", "'fedavg'", "closed-form"],
    ),
    "ascent under secure aggregation": (
        '[[unlearning]]\nmethod = "ascent"\n[federation]\nsecure_aggregation = true',
        ["unlearning.0.method = 'ascent'", "secure_aggregation", "take retrain"],
    ),
    "ascent with a leaver who is gone": (
        '[deletion]\nleaver_online = false\n[[unlearning]]\nmethod = "ascent"',
        ["unlearning.0.method = 'ascent'", "leaver_online = false", "take a method that does without"],
    ),
    "rollback of a server with momentum": (
        '[training]\nalgorithm = "fedsgd"\nmomentum = 0.5\n[[unlearning]]\nmethod = "rollback"',
        ["unlearning.0.method = 'rollback'", "momentum = 0.5", "take momentum = 0, or retrain"],
    ),
    "federaser under secure aggregation": (
        '[deletion]\nlevel = "client"\n[[unlearning]]\nmethod = "federaser"\n[federation]\nsecure_aggregation = true',
        ["unlearning.0.method = 'federaser'", "the updates of single clients", "take retrain"],
    ),
    "federaser of one record": (
        '[[unlearning]]\nmethod = "federaser"',
        ["unlearning.0.method = 'federaser'", "deletion.level = 'record'", "works on client"],
    ),
    "a history of a chain": (
        '[deletion]\nlevel = "client"\npattern = "sequential"\n[[unlearning]]\nmethod = "fedrecovery"',
        ["unlearning.0.method = 'fedrecovery'", "pattern = 'sequential'", "take pattern = 'independent'"],
    ),
    "newton of a network": (
        '[model]\nkind = "mlp"\n[[unlearning]]\nmethod = "newton"',
        ["unlearning.0.method = 'newton'", "model.kind = 'mlp'", "ridge, softmax, svm"],
    ),
    "newton without perturbation": (
        '[training]\nalgorithm = "lbfgs"\n[[unlearning]]\nmethod = "newton"',
        ["unlearning.0.method = 'newton'", "training.perturbation = 0", "give training.perturbation above 0"],
    ),
    "perturbed rounds": (
        "[training]\nperturbation = 1.0",
        ["training.perturbation = 1.0", "'fedavg'", "take lbfgs or closed-form"],
    ),
    "sifu with momentum": (
        '[training]\nmomentum = 0.9\n[deletion]\nlevel = "client"\n[[unlearning]]\nmethod = "sifu"',
        ["unlearning.0.method = 'sifu'", "training.momentum = 0.9", "take momentum = 0"],
    ),
    "sifu under secure aggregation": (
        '[deletion]\nlevel = "client"\n[[unlearning]]\nmethod = "sifu"\n[federation]\nsecure_aggregation = true',
        ["unlearning.0.method = 'sifu'", "the lengths of single clients' updates", "take retrain"],
    ),
    "pga of a client who is gone": (
        '[deletion]\nlevel = "client"\nleaver_online = false\n[[unlearning]]\nmethod = "pga"',
        ["unlearning.0.method = 'pga'", "leaver_online = false", "take a method that does without"],
    ),
    "a certificate whose noise is known": (
        '[deletion]\nlevel = "client"\n[adversary]\nknows = ["seeds"]\n[[unlearning]]\nmethod = "sifu"',
        ["unlearning.0.method = 'sifu'", "'seeds' in adversary.knows", "remove 'seeds'"],
    ),
    "closed form of softmax": (
        '[training]\nalgorithm = "closed-form"',
        ["training.algorithm = 'closed-form'", "'softmax'", "ridge"],
    ),
    "optimum of a network": (
        '[model]\nkind = "mlp"\nl2 = 1.0\n[training]\nalgorithm = "lbfgs"',
        ["training.algorithm = 'lbfgs'", "'mlp'", "ridge, softmax, svm"],
    ),
    "optimum without regulariser": (
        '[model]\nkind = "ridge"\nl2 = 0.0\n[training]\nalgorithm = "closed-form"',
        ["closed-form", "no regulariser", "model.l2"],
    ),
    "waiting without rounds": (
        '[training]\nalgorithm = "lbfgs"\n[deletion]\nrounds_between = 2',
        ["deletion.rounds_between = 2", "'lbfgs'", "give 0"],
    ),
    "more clients a round than there are": (
        "[data]\nclients = 10\n[training]\nclients_per_round = 20",
        ["training.clients_per_round = 20", "at most data.clients = 10"],
    ),
    "group above clients": (
        '[data]\nclients = 4\n[deletion]\npattern = "simultaneous"\ngroup = 5',
        ["deletion.group = 5", "at most data.clients = 4"],
    ),
    "group of one": ("[deletion]\ngroup = 2", ["deletion.group = 2", "simultaneous"]),
    "request after the end": (
        "[[deletion.request]]\nround = 30\nclient = 1\nrecords = [1]",
        ["deletion.request.0.round = 30", "at most 20"],
    ),
    "request of nobody": (
        "[[deletion.request]]\nclient = 100\nrecords = [1]",
        ["deletion.request.0.client = 100", "0 to 99"],
    ),
    "request of nothing": ("[[deletion.request]]\nclient = 1", ["deletion.request.0.records", "missing"]),
    "request of a negative record": (
        "[[deletion.request]]\nclient = 1\nrecords = [-1]",
        ["deletion.request.0.records.0 = -1", "at least 0"],
    ),
    "variants of one name": ('[[variant]]\nname = "a"\n[[variant]]\nname = "a"', ["variant.name = 'a'", "twice"]),
    "variant without a name": ("[[variant]]\nmodel = {}", ["variant.0.name", "missing"]),
    "variant with an unknown section": (
        '[[variant]]\nname = "a"\ntrainig = {}',
        ["variant.0.trainig", "did you mean 'training'"],
    ),
    "mistake within a variant": (
        '[[variant]]\nname = "a"\ntraining = { rounds = 0 }',
        ["variant.0.training.rounds = 0", "at least 1"],
    ),
    "variant named like no file": ('[[variant]]\nname = "A/b"', ['variant.0.name = "A/b"', "lower-case"]),
    "only for nobody": (
        '[[variant]]\nname = "a"\n[[unlearning]]\nmethod = "none"\nonly = ["b"]',
        ["unlearning.0.only", "'b'", "there are a"],
    ),
    "variant without unlearning": (
        '[[variant]]\nname = "a"\n[[variant]]\nname = "b"\n[[unlearning]]\nmethod = "none"\nonly = ["a"]',
        ["unlearning", "'b'", "add one"],
    ),
    "no seed": ("seeds = []", ["seeds = []", "at least 1"]),
    "a seed twice": ("seeds = [1, 1]", ["seeds = 1", "twice"]),
    "negative seed": ("seeds = [-1]", ["seeds.0 = -1", "at least 0"]),
    "no host": ("[runtime]\nhosts = 0", ["runtime.hosts = 0", "at least 1"]),
    "device": ('[runtime]\ndevice = "gpu"', ["runtime.device", "cuda", "auto"]),
    "cluster": ('[runtime]\nray_address = "auto"', ["runtime.ray_address", "host:port"]),
    "synthetic": ('[data]\nsource = "synthetic:cifar"', ["data.source", "synthetic:mnist-like", ".npz"]),
    "csv": ('[data]\nsource = "people.csv"', ["data.source", "there is no file", ".npz"]),
    "channels": ('[model]\nkind = "cnn"\nchannels = 8', ["channels = 8", "resnet18", "leave it out"]),
    "resnet features": (
        '[model]\nkind = "resnet18"\nfeatures = { dimension = 9 }',
        ["features", "softmax", "resnet18"],
    ),
    "resnet optimum": (
        '[model]\nkind = "resnet18"\n[training]\nalgorithm = "lbfgs"',
        ["training.algorithm = 'lbfgs'", "resnet18", "fedavg"],
    ),
    "budget": ("[privacy]\nbudget = 1.0", ["privacy.budget = 1", "no defense that spends", "dp-sgd", "leave it out"]),
    "secret sampling": ("[privacy]\nsampling_is_secret = true", ["sampling_is_secret = true", "central-dp"]),
    "two strengths of noise": (
        '[[defense]]\nkind = "dp-sgd"\nnoise_multiplier = 1.0\ntarget_epsilon = 2.0',
        ["noise_multiplier = 1.0", "target_epsilon = 2.0", "give one"],
    ),
    "private training of an optimum": (
        '[training]\nalgorithm = "lbfgs"\n[[defense]]\nkind = "dp-sgd"',
        ["defense.0.kind = 'dp-sgd'", "lbfgs", "fedavg"],
    ),
    "noise that the adversary knows": (
        '[[defense]]\nkind = "dp-sgd"\n[adversary]\nknows = ["seeds"]',
        ["defense.0.kind = 'dp-sgd'", "seeds"],
    ),
    "ascent on what is raw under client-level privacy": (
        '[[defense]]\nkind = "central-dp"\n[[unlearning]]\nmethod = "ascent"',
        ["unlearning.0.method = 'ascent'", "central-dp", "neither noises nor charges", "retrain"],
    ),
    "two accounts": (
        '[[defense]]\nkind = "stack"\nof = [{ kind = "dp-sgd" }, { kind = "central-dp" }]',
        ["dp-sgd and central-dp", "account", "remove one"],
    ),
    "a stack of one unknown": (
        '[[defense]]\nkind = "stack"\nof = [{ kind = "dp-sdg" }]',
        ["defense.0.of.0.kind", "dp-sgd"],
    ),
    "sequence without brackets": (
        '[deletion]\npattern = "sequential"\n[adversary]\nknows_bracket = false',
        ["adversary.knows_bracket = false", "sequential", "not built yet", "independent"],
    ),
    "no TOML": ("[data", ["not valid TOML"]),
}


@pytest.mark.parametrize("text, needed", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_refused_with_key_value_and_remedy(tmp_path: Path, text: str, needed: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        written(tmp_path, text)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in needed:
        assert part in sentence


def test_a_missing_scenario_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="did you mean 'mnist-deletions'"):
        load_scenario("mnist-deletion")
    with pytest.raises(ScenarioError, match="name is missing"):
        scenario_from_dict({})
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(str(tmp_path))
