"""Fabricated transcripts: deletions from models that are solved for here, by code that no method shares."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_diabetes

from palimpsest.simulator.attack_metrics.card import Truth
from palimpsest.simulator.testing.populations import digits_arrays
from palimpsest.simulator.world.models.kinds import model_card
from palimpsest.simulator.world.models.model import Model, linear_params, model_of
from palimpsest.simulator.world.protocols.knowledge import CaseView, Facts, PublicKnowledge, cases_of
from palimpsest.simulator.world.protocols.transcript import Transcript, TranscriptWriter
from palimpsest.simulator.world.records import Array, Case, Challenge, Params, Release
from palimpsest.simulator.world.specs import FeatureSpec, ModelSpec, Schema

_HELD = 200


@dataclass(frozen=True)
class Data:
    """Private and public halves of a data set."""

    schema: Schema
    x: Array
    y: Array
    public_x: Array
    public_y: Array
    held_x: Array = field(default_factory=lambda: np.empty((0, 0)))
    held_y: Array = field(default_factory=lambda: np.empty(0, np.int64))

    def spec(self, kind: str, regularisation: float, features: FeatureSpec | None = None) -> ModelSpec:
        """A float64 model of this data."""
        return ModelSpec.model_validate(
            {
                "kind": kind,
                "task": self.schema.task,
                "shape": self.schema.shape,
                "outputs": self.schema.outputs,
                "regularisation": regularisation,
                "hidden": 12,
                "channels": 4,
                "features": features,
                "dtype": "float64",
            }
        )

    def knowledge(self, spec: ModelSpec, operator: str = "hessian", step: float = 1.0) -> PublicKnowledge:
        """What the adversary knows, without any case."""
        image = self.schema.is_image
        return PublicKnowledge(
            facts=Facts(
                scenario="fabricated",
                schema_=self.schema,
                model=spec,
                n=len(self.x),
                algorithm="closed-form",
                training={},
                unlearning={"method": "retrain"},
                operator=operator,
                step=step,
                preprocessing={},
            ),
            x=self.public_x,
            y=self.public_y,
            box_low=np.zeros(self.schema.width) if image else self.public_x.min(axis=0),
            box_high=np.ones(self.schema.width) if image else self.public_x.max(axis=0),
        )

    def with_private_as_public(self) -> "Data":
        """The same data for an adversary whose public sample is the private one: its operator is then exact."""
        return Data(self.schema, self.x, self.y, self.x, self.y)


def digits(private: int = 800, public: int = 900) -> Data:
    """8 x 8 images in [0, 1]."""
    x, y = digits_arrays()
    schema = Schema(name="digits", task="classification", shape=(1, 8, 8), outputs=10)
    return _halved(schema, x / 16.0, y.astype(np.int64), private, public)


def breast_cancer() -> Data:
    """30 standardised columns, 2 classes."""
    x, y = load_breast_cancer(return_X_y=True)
    schema = Schema(name="breast-cancer", task="classification", shape=(30,), outputs=2)
    return _standardised(_halved(schema, x, y.astype(np.int64), 284, 284))


def diabetes() -> Data:
    """10 standardised columns and a standardised target."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    schema = Schema(name="diabetes", task="regression", shape=(10,), outputs=1)
    return _standardised(_halved(schema, x, (y - y.mean()) / y.std(), 221, 221))


def _halved(schema: Schema, x: Array, y: Array, private: int, public: int) -> Data:
    order = np.random.default_rng(7).permutation(len(x))
    private_rows, known, held = np.split(order, [private, private + public])
    return Data(schema, x[private_rows], y[private_rows], x[known], y[known], x[held], y[held])


def _standardised(data: Data) -> Data:
    mean, deviation = data.public_x.mean(axis=0), data.public_x.std(axis=0)
    return Data(data.schema, (data.x - mean) / deviation, data.y, (data.public_x - mean) / deviation, data.public_y)


def design(model: Model, x: Array) -> torch.Tensor:
    """``[n, p + 1]`` x~."""
    phi = model.embed(torch.tensor(x))
    return torch.cat([phi, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)


def objective(spec: ModelSpec, x: torch.Tensor, y: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Sum of losses + lambda/2 ||Theta||^2 at ``matrix [p + 1, Q]``, written out for each kind."""
    scores = x @ matrix
    penalty = 0.5 * spec.regularisation * (matrix**2).sum()
    if spec.task == "regression":
        return 0.5 * ((scores[:, 0] - y) ** 2).sum() + penalty
    one_hot = torch.nn.functional.one_hot(y, spec.outputs).to(torch.float64)
    if model_card(spec.kind).loss == "squared error":
        return 0.5 * ((scores - one_hot) ** 2).sum() + penalty
    if model_card(spec.kind).loss == "squared hinge":
        return 0.5 * (torch.relu(1.0 - (2.0 * one_hot - 1.0) * scores) ** 2).sum() + penalty
    return torch.nn.functional.cross_entropy(scores, y, reduction="sum") + penalty


def optimum(spec: ModelSpec, x: Array, y: Array, start: Array | None = None, newton: int = 0) -> Array:
    """``[p + 1, Q]`` Theta: ridge solved, others by L-BFGS and then so many Newton steps with an autograd Hessian.

    What was solved before in this process is not solved again: many checks begin from the same deletions.
    """
    key = hashlib.blake2b(f"{spec.model_dump_json()} {newton}".encode())
    for array in (x, y, start):
        key.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    if key.digest() not in _SOLVED:
        _SOLVED[key.digest()] = _optimum(spec, x, y, start, newton)
    return _SOLVED[key.digest()].copy()


_SOLVED: dict[bytes, Array] = {}
"""Optima by what they are optima of."""


def _optimum(spec: ModelSpec, x: Array, y: Array, start: Array | None, newton: int) -> Array:
    features, target = design(model_of(spec), x), torch.tensor(y)
    shape = (features.shape[1], spec.outputs)
    if model_card(spec.kind).loss == "squared error":
        gram = features.T @ features + spec.regularisation * torch.eye(shape[0], dtype=torch.float64)
        wanted = (
            target[:, None] if spec.task == "regression" else torch.nn.functional.one_hot(target, spec.outputs).double()
        )
        solved: Array = torch.linalg.solve(gram, features.T @ wanted).numpy()
        return solved

    def value_and_gradient(vector: Array) -> tuple[float, Array]:
        matrix = torch.tensor(vector.reshape(shape), requires_grad=True)
        value = objective(spec, features, target, matrix)
        (gradient,) = torch.autograd.grad(value, matrix)
        return value.item(), gradient.numpy().ravel()

    first = np.zeros(shape) if start is None else start
    options = {"maxiter": 3000, "maxfun": 6000, "ftol": 1e-16, "gtol": 1e-9, "maxcor": 30}
    minimise: Any = minimize  # its stubs know no gradient of this type
    vector: Array = minimise(value_and_gradient, first.ravel(), jac=True, method="L-BFGS-B", options=options).x
    for _ in range(newton):
        flat_objective = lambda flat: objective(spec, features, target, flat.view(shape))  # noqa: E731
        hessian_of: Any = torch.autograd.functional.hessian
        hessian = hessian_of(flat_objective, torch.tensor(vector), vectorize=True)
        vector = vector - np.linalg.solve(hessian.numpy(), value_and_gradient(vector)[1])
    return vector.reshape(shape)


def forgetting(data: Data, spec: ModelSpec, deletions: Sequence[Sequence[int]], newton: int = 0) -> list[Case]:
    """Optima before and after each deletion."""
    before = optimum(spec, data.x, data.y, newton=newton)
    cases = []
    for index, rows in enumerate(deletions):
        kept = np.setdiff1d(np.arange(len(data.x)), rows)
        after = optimum(spec, data.x[kept], data.y[kept], before, newton)
        cases.append(Case(index, len(rows), linear_params(before), linear_params(after)))
    return cases


def ascending(data: Data, spec: ModelSpec, deletions: Sequence[Sequence[int]], step: float) -> list[Case]:
    """One gradient ascent step on the deleted records' losses, by autograd, from random parameters of any kind."""
    model = model_of(spec)
    before = model.init(np.random.default_rng(3))
    cases = []
    for index, rows in enumerate(deletions):
        params = {name: value.requires_grad_() for name, value in model.tensors(before).items()}
        scores = model.scores(params, torch.tensor(data.x[list(rows)], dtype=model.dtype))
        loss = model.losses(scores, torch.tensor(data.y[list(rows)])).sum()
        gradients = torch.autograd.grad(loss, list(params.values()))
        after = {name: before[name] + step * g.numpy() for name, g in zip(params, gradients, strict=True)}
        cases.append(Case(index, len(rows), before, after))
    return cases


def challenged(
    knowledge: PublicKnowledge, data: Data, deletions: Sequence[Sequence[int]]
) -> tuple[PublicKnowledge, Array]:
    """Knowledge with a challenge, and its solution: for each entry its row of the private data, -1 where held out.

    Data that leave nothing to hold out are challenged with what is as new: public records with noise.
    """
    rows = np.unique(np.concatenate([np.asarray(deletion, np.int64) for deletion in deletions]))
    rng = np.random.default_rng(11)
    fresh = (data.public_x + 0.1 * rng.standard_normal(data.public_x.shape), data.public_y)
    held_x, held_y = (data.held_x, data.held_y) if len(data.held_x) else fresh
    held_x, held_y = held_x[:_HELD], held_y[:_HELD]
    order = rng.permutation(len(rows) + len(held_x))
    x, y = np.concatenate([data.x[rows], held_x])[order], np.concatenate([data.y[rows], held_y])[order]
    solution = np.concatenate([rows, np.full(len(held_x), -1)])[order]
    return replace(knowledge, challenge=Challenge(x, y)), solution


def hardest(data: Data, spec: ModelSpec, count: int) -> list[int]:
    """The private records of largest loss at the optimum: an svm does not notice the deletion of the others."""
    scores = design(model_of(spec), data.x) @ torch.tensor(optimum(spec, data.x, data.y))
    losses = model_of(spec).losses(scores, torch.tensor(data.y)).numpy()
    return [int(row) for row in np.argsort(-losses)[:count]]


def truths(data: Data, deletions: Sequence[Sequence[int]]) -> list[Truth]:
    """Ground truth of the deletions."""
    return [Truth(i, data.x[list(rows)], data.y[list(rows)].astype(float)) for i, rows in enumerate(deletions)]


def write(directory: Path, knowledge: PublicKnowledge, cases: Sequence[Case]) -> PublicKnowledge:
    """Write a transcript of alternative deletions and the knowledge beside it; return that knowledge."""
    writer = TranscriptWriter(directory)
    views = []
    for case in cases:
        first = writer.append(Release(0, case.index, "training", _plain(case.before)))
        last = writer.append(Release(case.index + 1, case.index, "unlearning", _plain(case.after)), first)
        views.append(CaseView(before=first, after=last, size=case.size, labels=case.labels))
    written = replace(knowledge, facts=knowledge.facts.model_copy(update={"cases": tuple(views)}))
    written.save(directory)
    return written


def read_back(directory: Path) -> list[Case]:
    """The cases as the adversary reads them."""
    return cases_of(Transcript.open(directory), PublicKnowledge.open(directory / "knowledge.json").facts)


def cosines(answered: Array, true: Array, centre: Array | float = 0.0) -> Array:
    """``[n]`` cosine of each pair of rows, both less ``centre``."""
    a, b = answered - centre, true - centre
    cosine: Array = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return cosine


def _plain(params: Params) -> Params:
    return {name: np.asarray(value) for name, value in params.items()}
