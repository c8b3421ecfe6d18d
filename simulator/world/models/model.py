"""The models, as functions of explicit parameters, so that many of them can be trained and attacked at once.

What a model is says its card (``world.models.kinds``). Linear ones (ridge, softmax, svm) are one ``[outputs, d]``
weight and a bias on the record or on its random Fourier features. With x~ = [phi(x); 1] and scores s = Theta^T x~, the
gradient of a record's loss is -x~ r^T, where r is the ``residual``: this rank-1 form is what the eavesdropper lives on.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.card import called
from palimpsest.simulator.world.models.convolutions import Convolution
from palimpsest.simulator.world.models.kinds import model_card
from palimpsest.simulator.world.models.modules import check_builds, check_kind, seeded, tried
from palimpsest.simulator.world.models.one_hot import OneHot
from palimpsest.simulator.world.models.precision import in_bfloat16
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import FeatureSpec, Frozen, ModelSpec, Precision, Schema

_TOGETHER = 8
"""Models without written-out gradients that are stepped at once."""


class RandomFourier(nn.Module):
    """phi(x) = sqrt(2/D) cos(W x + b): the feature map of ``FeatureSpec``, ``[n, d] -> [n, D]``."""

    weight: Tensor
    phase: Tensor

    def __init__(self, spec: FeatureSpec, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        rng = generator(spec.seed, "random-fourier")
        frequencies = rng.standard_normal((spec.dimension, width)) / spec.bandwidth
        phases = rng.uniform(0.0, 2.0 * math.pi, spec.dimension)
        self.scale = math.sqrt(2.0 / spec.dimension)
        self.register_buffer("weight", torch.from_numpy(frequencies).to(dtype))
        self.register_buffer("phase", torch.from_numpy(phases).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map records to features."""
        return self.scale * torch.cos(x @ self.weight.T + self.phase)


class Clipped(nn.Module):
    """x min(1, bound / ||x||), row by row."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        """Cut records to the bound."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * torch.clamp(self.bound / length.clamp(min=torch.finfo(x.dtype).tiny), max=1.0)


class Extractor(nn.Module):
    """A card's fixed map; of ``[W, b, d]`` batch by batch, so that bits do not depend on how many there are."""

    def __init__(self, of_batch: nn.Module) -> None:
        super().__init__()
        self.of_batch = of_batch.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., b, d] -> [..., b, p]``."""
        out: Tensor = self.of_batch(x) if x.dim() <= 2 else torch.stack([self(batch) for batch in x])
        return out


class Model:
    """One architecture; holds no trainable state of its own.

    Attributes:
        spec: what was built.
        card: what its model says of itself.
        device: where it computes.
        precision: of its layers; whoever calls sees to that of products (``precision.multiplying``).
        names: of the parameters, in the order in which they are released.
        dtype: of the parameters.
        linear: whether scores are linear in the parameters.
        embed: the fixed feature map in front of the parameters; the identity where there is none.
        maps: whether there is one.
        inputs: numbers that the parameters see of a record.
        written: the card's written-out gradients; None: there are none.
        width: models whose gradients ``vmap`` takes at once, where its kernels' choice depends on it; 0: any number.
        vmaps: whether ``vmap`` goes through the module.
    """

    def __init__(self, spec: ModelSpec, device: str = "cpu", precision: Precision = "highest") -> None:
        self.spec, self.card, self.precision = spec, model_card(spec.kind), precision
        self.options: Frozen = self.card.options.model_validate(spec.options.root)
        self.device = torch.device(device)
        self.dtype = torch.float64 if spec.dtype == "float64" else torch.float32
        self.linear, self.embed = self.card.linear, self._features().to(self.device)
        self.maps = spec.features is not None or self.card.features is not None
        with torch.no_grad():
            empty = torch.zeros(1, math.prod(spec.shape), dtype=self.dtype).to(self.device)
            self.inputs = int(self.embed(empty).shape[-1]) if self.maps else math.prod(spec.shape)
        self._head, self.vmaps, self.width = self.card.head, True, 0
        self._body = self._build()
        if self.card.initialisation == "own":
            self._try()
        self._body.to(self.device)
        self._one_hot = OneHot(spec.outputs, self.dtype, self.device)
        self.shapes = {name: tuple(p.shape) for name, p in self._body.named_parameters() if p.requires_grad}
        self.names = tuple(self.shapes)
        self.written: Callable[..., Any] | None = None
        if self.card.gradients is not None:
            self.written = called(self.card.gradients)

    @property
    def alone(self) -> bool:
        """Whether gradients are taken of one model after the other."""
        return self.written is None and self.width <= 1

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def squared(self) -> bool:
        """Whether the loss is half the squared error, so that a linear model's has one Hessian everywhere."""
        return self.spec.task == "regression" or self.card.loss == "squared error"

    @property
    def probabilities(self) -> bool:
        """Whether the softmax of the scores is what the model takes for the probabilities of classes."""
        return self.spec.task == "classification" and self.card.loss == "cross-entropy"

    @property
    def last_layer(self) -> tuple[str, str]:
        """Names of weight and bias of the linear layer that puts out the scores.

        Raises:
            ModelError: there is none, or it has no bias.
        """
        return self._layer(self._head, "head", "last linear layer, whose outputs are the scores")

    @property
    def first_layer(self) -> tuple[str, str] | None:
        """Names of weight and bias of the linear layer that reads the record itself; None: there is none."""
        if self.card.first is None or self.maps:
            return None
        return self._layer(self.card.first, "first", "linear layer that reads the flat record")

    @cached_property
    def convolutions(self) -> tuple[Convolution, Convolution] | None:
        """The two convolutions of a model that is such a chain."""
        if self.card.convolutions is None:
            return None
        layers: tuple[Convolution, Convolution] = called(self.card.convolutions)(self.spec.shape)
        return layers

    @property
    def bytes(self) -> int:
        """Bytes of one model on the wire."""
        return self.size * self.dtype.itemsize

    def init(self, rng: np.random.Generator) -> Params:
        """Draw the first parameters, as the card's ``initialisation`` says."""
        if self.card.initialisation == "own":
            drawn = dict(self._build(int(rng.integers(2**31))).named_parameters())
            return {name: drawn[name].detach().numpy() for name in self.names}
        params = {}
        for name, module in self._body.named_modules():
            for part in [part for part in ("weight", "bias") if isinstance(getattr(module, part, None), nn.Parameter)]:
                key = f"{name}.{part}" if name else part
                if isinstance(module, nn.GroupNorm):
                    params[key] = np.full(self.shapes[key], part == "weight", self.spec.dtype)
                    continue
                bound = 1.0 / math.sqrt(module.weight[0].numel())
                params[key] = rng.uniform(-bound, bound, self.shapes[key]).astype(self.spec.dtype)
        return {name: params[name] for name in self.names}

    def tensors(self, params: Params) -> dict[str, Tensor]:
        """Copy released arrays into tensors of this model's type, on its device."""
        return {name: torch.tensor(np.asarray(params[name]), dtype=self.dtype).to(self.device) for name in self.names}

    def scores(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        """``[n, d] -> [n, outputs]`` scores (logits, margins or predictions)."""
        return self.head(params, self.embed(x))

    def head(self, params: dict[str, Tensor], features: Tensor) -> Tensor:
        """The same from records that went through ``embed`` already."""
        records = features.reshape(*features.shape[:-1], *self.spec.shape) if self._shaped else features
        with in_bfloat16(self.device) if self.precision == "bfloat16" else nullcontext():
            out: Tensor = functional_call(self._body, params, (records,))
        return out if self.precision == "highest" else out.to(self.dtype)

    def before_last(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        """``[n, d] -> [n, p]`` what the last layer sees of records.

        Raises:
            ModelError: there is no last linear layer with a bias.
        """
        weight, _ = self.last_layer
        seen: list[Tensor] = []
        layer = self._body.get_submodule(weight.rpartition(".")[0])
        hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self.scores(params, x)
        finally:
            hook.remove()
        return seen[0]

    def predict(self, params: Params, x: np.ndarray) -> np.ndarray:
        """``[n, d] -> [n, outputs]`` float64 scores of a released model."""
        with torch.no_grad():
            records = torch.tensor(np.asarray(x), dtype=self.dtype).to(self.device)
            return self.scores(self.tensors(params), records).double().cpu().numpy()

    def losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """``[..., n]`` loss of each record: half the squared error, cross-entropy, or half the squared hinge.

        Args:
            scores: ``[..., n, outputs]``.
            y: ``[n]``, or as many axes as ``scores`` has: classes (integers) or regression targets.
        """
        if not self.probabilities:
            return 0.5 * (self.residual(scores, y) ** 2).sum(-1)
        chosen = scores.gather(-1, y.expand(scores.shape[:-1]).unsqueeze(-1)).squeeze(-1)
        return torch.logsumexp(scores, -1) - chosen

    def residual(self, scores: Tensor, y: Tensor) -> Tensor:
        """``[n, outputs]`` minus the gradient of each loss by its scores.

        Squared error: y - s (one-hot y for classes); cross-entropy: e_y - softmax(s); squared hinge (one against the
        rest, t in {-1, 1}): t max(0, 1 - t s).
        """
        if self.spec.task == "regression":
            return y.to(scores.dtype).unsqueeze(-1) - scores
        one_hot = self._one_hot(y).to(scores.dtype)
        if self.squared:
            return one_hot - scores
        if self.card.loss == "squared hinge":
            sign = 2.0 * one_hot - 1.0
            return sign * torch.clamp(1.0 - sign * scores, min=0.0)
        return one_hot - torch.softmax(scores, -1)

    def module(self, params: Params) -> nn.Module:
        """Return an ordinary ``torch.nn`` module, flat records to scores, holding the released parameters."""
        body = self._build()
        body.load_state_dict(self.tensors(params), strict=False)
        parts: dict[str, nn.Module] = {"features": self._features()}
        if self._shaped:
            parts["shape"] = nn.Unflatten(-1, self.spec.shape)
        return nn.Sequential(OrderedDict(parts, body=body))

    @property
    def _shaped(self) -> bool:
        """Whether the module takes records in shape, and they are not so already."""
        return self.card.records == "shape" and len(self.spec.shape) > 1 and not self.maps

    def _layer(self, prefix: str | None, key: str, what: str) -> tuple[str, str]:
        pair = (_joined(prefix or "", "weight"), _joined(prefix or "", "bias"))
        if prefix is None or not set(pair) <= set(self.names):
            raise ModelError(
                f"the model {self.spec.kind!r} has no {what}, with a weight and a bias; name it in its card ({key}=...)"
            )
        return pair

    def _features(self) -> nn.Module:
        """The fixed map in front of the parameters."""
        spec = self.spec
        embed: nn.Module = Clipped(spec.row_clip) if spec.row_clip else nn.Identity()
        if self.card.features is not None:
            return nn.Sequential(Extractor(seeded(self._extractor, 0).to(self.dtype)), embed)
        if spec.features is not None:
            embed = RandomFourier(spec.features, math.prod(spec.shape), self.dtype)
        return embed

    def _build(self, seed: int = 0) -> nn.Module:
        """The trainable body; what of it is not trained is that of seed 0 wherever it is built."""
        body = check_kind(self.spec.kind, seeded(self._made, seed), self.spec.dropout == "off")
        return body.to(self.dtype)

    def _extractor(self) -> Any:
        form = Schema(name="", task=self.spec.task, shape=self.spec.shape, outputs=self.spec.outputs)
        return called(self.card.features or "")(form, self.options)

    def _made(self) -> Any:
        return called(self.card.build)(self._form(), self.options)

    def _form(self) -> Schema:
        """What a card's functions are told of the data: of features in front, how many, in place of records."""
        shape = (self.inputs,) if self.maps else self.spec.shape
        return Schema(name="", task=self.spec.task, shape=shape, outputs=self.spec.outputs)

    def _try(self) -> None:
        """Refuse a module that cannot be trained soundly, and see how it can be."""
        check_builds(self.spec.kind, self._made)
        form = self._form()
        shape = form.shape if self.card.records == "shape" else (form.width,)
        trial = tried(self.spec.kind, self.card, self._body, shape, form.outputs)
        self._head, self.vmaps = trial.head, trial.vmaps
        self.width = _TOGETHER if trial.vmaps and self.card.vmapped else 1


@lru_cache(maxsize=16)
def model_of(spec: ModelSpec, device: str = "cpu", precision: Precision = "highest") -> Model:
    """Build a model once a process."""
    return Model(spec, device, precision)


def theta(params: Params) -> np.ndarray:
    """``[d + 1, outputs]`` float64 Theta of a linear model, the intercept as its last row."""
    weight, bias = np.asarray(params["weight"], np.float64), np.asarray(params["bias"], np.float64)
    return np.concatenate([weight.T, bias[None, :]])


def linear_params(matrix: np.ndarray, dtype: str = "float64") -> Params:
    """Inverse of ``theta``."""
    weight = np.ascontiguousarray(matrix[:-1].T).astype(dtype)
    return {"weight": weight, "bias": np.ascontiguousarray(matrix[-1]).astype(dtype)}


def flat(params: Params) -> np.ndarray:
    """All parameters as one float64 vector, in the order of their sorted names.

    Example:
        >>> flat({"weight": np.ones((1, 2)), "bias": np.zeros(1)}).tolist()
        [0.0, 1.0, 1.0]
    """
    return np.concatenate([np.asarray(params[name], np.float64).ravel() for name in sorted(params)])


def unflat(vector: np.ndarray, like: Params) -> Params:
    """Inverse of ``flat``: parameters of the shapes, types and order of ``like``."""
    parts, begin = {}, 0
    for name in sorted(like):
        value = np.asarray(like[name])
        parts[name] = vector[begin : begin + value.size].reshape(value.shape).astype(value.dtype)
        begin += value.size
    return {name: parts[name] for name in like}


def _joined(prefix: str, part: str) -> str:
    return f"{prefix}.{part}" if prefix else part
