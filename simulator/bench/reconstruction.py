"""Attacks in a race: how many records a second each way of computing the same answer takes, and how good it is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from rich import box
from rich.table import Table
from torch import Tensor

from palimpsest.attacks.class_score import deleted_labels
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.inversion import Inversion
from palimpsest.attacks.linear import precise_model
from palimpsest.simulator.attack_metrics.card import Truth
from palimpsest.simulator.attack_metrics.reconstruction import score_attack
from palimpsest.simulator.world.data.build import DataConfig, build_population
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.models.model import Model, linear_params, model_of
from palimpsest.simulator.world.models.training import Slot, fit
from palimpsest.simulator.world.protocols.knowledge import Facts, PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params, Reconstruction
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelKind, ModelSpec, Recipe

Run: TypeAlias = Callable[[Sequence[Case]], list[Reconstruction]]

_STEP = 0.05
_LAMBDA = 10.0
_EPOCHS = 2
PUBLISHED_STEPS = 10_000
_RESTARTS, _RATE, _SMOOTHING = 5, 0.04, 1e-3


@dataclass(frozen=True)
class Race:
    """One contestant's time and quality on the same deletions.

    Attributes:
        records: how many it reconstructed.
        seconds: for all of them.
        cosine, psnr: medians (dB on [0, 1]).
        labels: share inferred rightly.
    """

    attack: str
    contestant: str
    records: int
    seconds: float
    cosine: float
    psnr: float
    labels: float


def race(
    records: int, published: int, steps: int = PUBLISHED_STEPS, epochs: int = _EPOCHS, ours: Inversion | None = None
) -> list[Race]:
    """hrec batched and one by one, inversion batched and by the published defaults, all on mnist5k.

    Args:
        records: deleted, each by itself: from ridge solved exactly, and by one ascent step from a trained cnn.
        published: how many of them the published defaults invert, which take minutes for each.
        steps: of a published restart.
        epochs: of the cnn.
        ours: the batched inversion; its defaults where not given.
    """
    people = build_population(DataConfig(clients=50, test_fraction=0.2, public_fraction=0.3), 0)
    assert isinstance(people, Population)  # mnist5k is held in memory
    chosen = generator(0, "bench/deleted").permutation(len(people.train_x))[:records]
    ridge = _knowledge(people, "ridge", "hessian")
    solved = _downdated(people, chosen, ridge)
    cnn = _knowledge(people, "cnn", "identity")
    ascended = _ascended(people, chosen, cnn, epochs)
    entries: list[tuple[str, str, PublicKnowledge, Sequence[Case], Run]]
    entries = [
        ("hrec", "all at once", ridge, solved, _run(Hrec(), ridge)),
        ("hrec", "one by one", ridge, solved, _one_by_one(_run(Hrec(), ridge))),
        ("inversion", "all at once", cnn, ascended, _run(ours or Inversion(), cnn)),
        ("inversion", "published defaults", cnn, ascended[:published], _one_by_one(_published(cnn, steps))),
    ]
    return [_timed(people, chosen, *entry) for entry in entries]


def _timed(
    people: Population,
    chosen: Array,
    attack: str,
    contestant: str,
    knowledge: PublicKnowledge,
    cases: Sequence[Case],
    run: Run,
) -> Race:
    began = time.perf_counter()
    answers = run(cases)
    seconds = time.perf_counter() - began
    x, y = np.asarray(people.train_x, np.float64), np.asarray(people.train_y, np.float64)
    truths = [Truth(case.index, x[[row]], y[[row]]) for case, row in zip(cases, chosen, strict=False)]
    scores = score_attack(truths, answers, knowledge, people.schema, np.empty((0, x.shape[1])), generator(0, "bench"))
    medians = scores[["cosine", "psnr"]].median()
    correct = float(scores["label_correct"].mean())
    return Race(attack, contestant, len(cases), seconds, float(medians["cosine"]), float(medians["psnr"]), correct)


def _run(attack: Hrec | Inversion, knowledge: PublicKnowledge) -> Run:
    return lambda cases: attack.run(cases, knowledge, generator(0, f"attack/{attack.kind}"))


def _one_by_one(run: Run) -> Run:
    return lambda cases: [answer for case in cases for answer in run([case])]


def _knowledge(people: Population, kind: ModelKind, operator: str) -> PublicKnowledge:
    spec = ModelSpec(
        kind=kind,
        task=people.schema.task,
        shape=people.schema.shape,
        outputs=people.schema.outputs,
        regularisation=_LAMBDA if operator == "hessian" else 0.0,
        dtype="float64" if operator == "hessian" else "float32",
    )
    facts = Facts(
        scenario="bench",
        schema_=people.schema,
        model=spec,
        n=len(people.train_x),
        algorithm="fedavg",
        training={},
        unlearning={},
        operator=operator,
        step=_STEP if operator == "identity" else 1.0,
        preprocessing={},
    )
    public_x = np.asarray(people.public_x, np.float64)
    return PublicKnowledge(facts, public_x, np.asarray(people.public_y), people.box_low, people.box_high)


def _downdated(people: Population, chosen: Array, knowledge: PublicKnowledge) -> list[Case]:
    """Ridge on one-hot labels, with each record taken out of its sums."""
    x = np.concatenate([np.asarray(people.train_x, np.float64), np.ones((len(people.train_x), 1))], axis=1)
    y = np.eye(knowledge.facts.model.outputs)[np.asarray(people.train_y)]
    gram, moment = x.T @ x + _LAMBDA * np.eye(x.shape[1]), x.T @ y
    before = linear_params(np.linalg.solve(gram, moment))
    return [
        Case(
            i,
            1,
            before,
            linear_params(np.linalg.solve(gram - np.outer(x[row], x[row]), moment - np.outer(x[row], y[row]))),
        )
        for i, row in enumerate(chosen)
    ]


def _ascended(people: Population, chosen: Array, knowledge: PublicKnowledge, epochs: int) -> list[Case]:
    """A cnn trained on all private records in one place, and one ascent step on each chosen record's loss."""
    model = model_of(knowledge.facts.model)
    x, y = torch.tensor(np.asarray(people.train_x)), torch.tensor(np.asarray(people.train_y))
    batch, rng = 10, generator(0, "bench/batches")
    order = np.concatenate([rng.permutation(len(x))[: len(x) // batch * batch] for _ in range(epochs)])
    drawn = model.init(generator(0, "bench/init"))
    first = {name: torch.tensor(value)[None] for name, value in drawn.items()}
    recipe = Recipe(batch_size=batch, learning_rate=0.1)
    trained = fit(model, first, [Slot(0, order.reshape(-1, batch))], x, y, recipe)
    before: Params = {name: value[0].numpy() for name, value in trained.items()}
    cases = []
    for i, row in enumerate(chosen):
        params = {name: value.requires_grad_() for name, value in model.tensors(before).items()}
        loss = model.losses(model.scores(params, x[[row]]), y[[row]]).sum()
        slopes = torch.autograd.grad(loss, list(params.values()))
        after = {name: before[name] + _STEP * slope.numpy() for name, slope in zip(params, slopes, strict=True)}
        cases.append(Case(i, 1, before, after))
    return cases


def _published(knowledge: PublicKnowledge, steps: int) -> Run:
    """Hu et al. with their defaults, restart after restart, as a plain loop around ``torch.optim.AdamW``."""
    model = precise_model(knowledge)

    def run(cases: Sequence[Case]) -> list[Reconstruction]:
        (case,) = cases
        before = {name: value.requires_grad_() for name, value in model.tensors(case.before).items()}
        change = torch.cat([(model.tensors(case.after)[name] - before[name]).detach().flatten() for name in before])
        y = deleted_labels(case, knowledge, model)
        rng = generator(0, "bench/published")
        starts = rng.uniform(0.0, 1.0, (_RESTARTS, 1, knowledge.x.shape[1]))
        ends = [_restart(model, before, change, torch.tensor(start), torch.tensor(y).long(), steps) for start in starts]
        best = min(ends, key=lambda end: end[1])[0]
        return [Reconstruction(case.index, best.numpy(), y)]

    return run


def _restart(
    model: Model, before: dict[str, Tensor], change: Tensor, x: Tensor, y: Tensor, steps: int
) -> tuple[Tensor, float]:
    """One restart of signed AdamW; its end and its matching loss."""
    x = x.requires_grad_()
    optimiser = torch.optim.AdamW([x], lr=_RATE)
    halvings = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps * part // 8 for part in (3, 5, 7)], gamma=0.5)
    misfit = torch.tensor(torch.inf)
    for _ in range(steps):
        loss = model.losses(model.scores(before, x), y).sum()
        slopes = torch.autograd.grad(loss, list(before.values()), create_graph=True)
        gradient = torch.cat([slope.flatten() for slope in slopes])
        misfit = 1.0 - torch.nn.functional.cosine_similarity(gradient, change, dim=0)
        image = x.view(-1, *model.spec.shape)
        smooth = image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()
        (slope,) = torch.autograd.grad(misfit + _SMOOTHING * smooth, x)
        x.grad = slope.sign()
        optimiser.step()
        halvings.step()
        with torch.no_grad():
            x.clamp_(0.0, 1.0)
    return x.detach(), float(misfit.detach())


def race_table(lines: Sequence[Race]) -> Table:
    """The comparison; ``speed-up`` is the first contestant's records a second over this one's."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("attack", "contestant"):
        shown.add_column(header, no_wrap=True)
    for header in ("records", "s/record", "first is", "cosine", "PSNR dB", "labels"):
        shown.add_column(header, justify="right", no_wrap=True)
    for line in lines:
        pace = line.seconds / line.records
        first = next(earlier for earlier in lines if earlier.attack == line.attack)
        ratio = "" if first is line else f"{pace * first.records / first.seconds:,.0f} x"
        quality = (f"{line.cosine:.3f}", f"{line.psnr:.1f}", f"{line.labels:.2f}")
        shown.add_row(line.attack, line.contestant, str(line.records), f"{pace:.4g}", ratio, *quality)
    return shown
