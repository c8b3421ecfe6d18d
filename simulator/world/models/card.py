"""What a model is, as literals: listing models and checking a scenario imports no torch."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from palimpsest.simulator.world.cards import Trait
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.specs import Frozen, Task

Loss = Literal["cross-entropy", "squared error", "squared hinge"]

Target: TypeAlias = str | Callable[..., Any]
"""A function, or ``"package.module:function"``, which is imported when it is called for the first time."""


class NoOptions(Frozen):
    """A model without hyper-parameters."""


@dataclass(frozen=True)
class ModelCard:
    """One line of the table of models.

    Attributes:
        build: ``build(schema, options) -> torch.nn.Module``, from records to scores ``[n, schema.outputs]``.
        summary: one sentence for ``palimpsest list``.
        options: its hyper-parameters, whose defaults are a model that works.
        loss: of classes; a regression has half the squared error.
        tasks: what it can be trained for.
        records: how the module takes them: ``shape``: ``[n, *schema.shape]``, ``flat``: ``[n, d]``.
        images_only: whether records must be images.
        default_l2: lambda / n where the scenario gives none.
        linear: whether scores are linear in the parameters: the module is one ``nn.Linear``, and what is in front of it
            is ``features``.
        features: ``features(schema, options) -> torch.nn.Module``, a fixed map ``[n, d] -> [n, p]`` in front of
            ``build``'s module, whose schema then has the shape ``(p,)``; None: there is none.
        head: name within the module of the last linear layer, whose outputs are the scores; None: the module's last
            one, if that is an ``nn.Linear``.
        first: name of the linear layer that reads the flat record, where there is one.
        initialisation: ``own``: as the module draws it; ``uniform``: within 1/sqrt(fan-in), weights and biases alike,
            norms as the identity.
        gradients: written-out gradients of many models at once, see ``world.models.layers.Backward``; None: those of
            ``torch.func``.
        convolutions: ``convolutions(shape)``: the two layers of a chain as ``world.models.convolutions`` has it, whose
            second derivatives are written out too.
        vmapped: whether models without written-out gradients are stepped together; False: one after the other, which
            is as fast where a model's kernels need no company.
    """

    build: Target
    summary: str = ""
    options: type[Frozen] = NoOptions
    loss: Loss = "cross-entropy"
    tasks: tuple[Task, ...] = ("classification", "regression")
    records: Literal["shape", "flat"] = "shape"
    images_only: bool = False
    default_l2: float = 0.0
    linear: bool = False
    features: Target | None = None
    head: str | None = None
    first: str | None = None
    initialisation: Literal["own", "uniform"] = "own"
    gradients: Target | None = None
    convolutions: Target | None = None
    vmapped: bool = True

    @property
    def traits(self) -> frozenset[Trait]:
        """What methods may ask for; whether a ``head`` that the card does not name is there, the module shows."""
        has: dict[Trait, bool] = {
            "linear": self.linear,
            "quadratic": self.linear and self.loss == "squared error",
            "smooth": self.loss != "squared hinge",
            "network": not self.linear or self.features is not None,
            "first layer": self.first is not None,
            "last layer": True,
        }
        return frozenset(trait for trait, there in has.items() if there)


def called(target: Target) -> Callable[..., Any]:
    """The function itself.

    Raises:
        ModelError: it cannot be imported.
    """
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{target} cannot be imported: {error}") from error
    return function
