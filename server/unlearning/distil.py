"""Approximate unlearning by subtracting the leaver's updates and distilling what was lost back in."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palimpsest.server.unlearning import CARDS
from palimpsest.server.unlearning.residuals import cohorts, contribution
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import Model, flat, model_of, unflat
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Array, Params, Release
from palimpsest.simulator.world.specs import Frozen


class Distil(Frozen):
    """Subtract the leaver's accumulated updates, then distil the old model into the new one (Wu et al. 2022).

    theta' = theta - sum over rounds of (sum over leavers of n_k u_k) / (sum over the cohort of n_k). Then the server
    trains theta' on the public sample, without labels, to answer as theta did: minibatch SGD on T^2 times the
    cross-entropy of softened answers (half the squared difference where the target is a number). theta knows D_f, so
    what it teaches is not free of it.

    Guarantee: none. Cost: training at the server; no client is asked. The server keeps the update of every client in
    every round, and needs public records.

    Attributes:
        temperature: T; default: ours, as the others: what the paper used could not be established.
        epochs: over the public sample.
        batch_size, learning_rate: of the distillation.
    """

    card: ClassVar[Card] = CARDS["distil"]
    method: Literal["distil"] = "distil"
    temperature: float = Field(default=3.0, gt=0)
    epochs: int = Field(default=5, ge=0)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the model after the subtraction and after the distillation, for every case."""
        if history.record.public is None or len(history.record.public) == 0:
            raise ValueError("distil needs public records, and there are none")
        model = model_of(history.record.spec)
        with torch.no_grad():
            features = model.embed(torch.tensor(np.asarray(history.record.public), dtype=model.dtype))
        for case in cases:
            subtracted = flat(case.before)
            for everyone, staying in cohorts(history, case):
                subtracted = subtracted - contribution(history, everyone, staying)
            student = unflat(subtracted, case.before)
            yield Outcome(Release(case.branch, case.round, "unlearning", student))
            taught = self._taught(model, student, case.before, features, history.retrainer.noise("distil", case))
            yield Outcome(Release(case.branch, case.round, "recovery", taught))

    def forecast(self, work: Workload) -> Forecast:
        """No client is asked; the model is broadcast before the distillation and after it."""
        return Forecast(0, 0, 2 * len(work.requests))

    def public_rule(self) -> tuple[str, float]:
        """Subtracted updates and a distillation at the server lead to no optimum."""
        return "unknown", 1.0

    def _taught(
        self, model: Model, student: Params, teacher: Params, features: Tensor, rng: np.random.Generator
    ) -> Params:
        """SGD on the distance between the student's and the teacher's answers."""
        params = {name: value.requires_grad_() for name, value in model.tensors(student).items()}
        with torch.no_grad():
            answers = model.head(model.tensors(teacher), features)
        for _ in range(self.epochs):
            order: Array = rng.permutation(len(features))
            for begin in range(0, len(order), self.batch_size):
                rows = torch.from_numpy(order[begin : begin + self.batch_size])
                loss = self._distance(model.head(params, features[rows]), answers[rows], model.spec.task)
                gradients = torch.autograd.grad(loss, list(params.values()))
                with torch.no_grad():
                    for value, gradient in zip(params.values(), gradients, strict=True):
                        value.sub_(gradient, alpha=self.learning_rate)
        return {name: value.detach().numpy() for name, value in params.items()}

    def _distance(self, answers: Tensor, wanted: Tensor, task: str) -> Tensor:
        if task == "regression":
            return 0.5 * ((answers - wanted) ** 2).sum(-1).mean()
        soft = torch.softmax(wanted / self.temperature, -1)
        return -(self.temperature**2) * (soft * torch.log_softmax(answers / self.temperature, -1)).sum(-1).mean()
