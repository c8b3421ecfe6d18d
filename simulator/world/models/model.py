"""The models, as functions of explicit parameters, so that many of them can be trained and attacked at once.

Linear kinds (ridge, softmax, svm) are one ``[outputs, d]`` weight and a bias on the record or on its random Fourier
features. With x~ = [phi(x); 1] and scores s = Theta^T x~, the gradient of a record's loss is -x~ r^T, where r is the
``residual``: this rank-1 form is what the eavesdropper lives on.
"""

import math
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from palimpsest.simulator.world.models.convolutions import STRIDE, Convolution, layers_of
from palimpsest.simulator.world.models.resnet import resnet18
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import LINEAR, FeatureSpec, ModelSpec


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


class Model:
    """One architecture; holds no trainable state of its own.

    Attributes:
        spec: what was built.
        device: where it computes.
        names: of the parameters, in the order in which they are released.
        dtype: of the parameters.
        linear: whether scores are linear in the parameters.
        embed: the fixed feature map in front of a linear head; the identity where there is none.
    """

    def __init__(self, spec: ModelSpec, device: str = "cpu") -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.dtype = torch.float64 if spec.dtype == "float64" else torch.float32
        self.linear = spec.kind in LINEAR
        embed, self._body = _build(spec, self.dtype)
        self.embed = embed.to(self.device)
        self.names = tuple(name for name, _ in self._body.named_parameters())
        self.shapes = {name: tuple(p.shape) for name, p in self._body.named_parameters()}

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def convolutions(self) -> tuple[Convolution, Convolution]:
        """The two convolutions of a cnn."""
        return layers_of(self.spec.shape)

    @property
    def bytes(self) -> int:
        """Bytes of one model on the wire."""
        return self.size * self.dtype.itemsize

    def init(self, rng: np.random.Generator) -> Params:
        """Draw parameters uniformly within 1/sqrt(fan-in), weights and biases alike; norms start as the identity."""
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
        out: Tensor = functional_call(self._body, params, (features,))
        return out

    def before_last(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        """``[n, d] -> [n, p]`` what the last layer sees of records."""
        features: Tensor = self.embed(x)
        if not isinstance(self._body, nn.Sequential):
            return features
        front = {name: params[name] for name in self.names[:-2]}
        seen: Tensor = functional_call(self._body[:-1], front, (features,))
        return seen

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
        if self.spec.kind in ("ridge", "svm"):
            return 0.5 * (self.residual(scores, y) ** 2).sum(-1)
        if self.spec.task == "regression":
            return 0.5 * ((y.to(scores.dtype).unsqueeze(-1) - scores) ** 2).sum(-1)
        chosen = scores.gather(-1, y.expand(scores.shape[:-1]).unsqueeze(-1)).squeeze(-1)
        return torch.logsumexp(scores, -1) - chosen

    def residual(self, scores: Tensor, y: Tensor) -> Tensor:
        """``[n, outputs]`` minus the gradient of each loss by its scores.

        Ridge: y - s (one-hot y for classes); softmax: e_y - softmax(s); svm (one against the rest, t in {-1, 1}):
        t max(0, 1 - t s).
        """
        if self.spec.task == "regression":
            return y.to(scores.dtype).unsqueeze(-1) - scores
        one_hot = nn.functional.one_hot(y, self.spec.outputs).to(scores.dtype)
        if self.spec.kind == "ridge":
            return one_hot - scores
        if self.spec.kind == "svm":
            sign = 2.0 * one_hot - 1.0
            return sign * torch.clamp(1.0 - sign * scores, min=0.0)
        return one_hot - torch.softmax(scores, -1)

    def module(self, params: Params) -> nn.Module:
        """Return an ordinary ``torch.nn`` module, flat records to scores, holding the released parameters."""
        embed, body = _build(self.spec, self.dtype)
        body.load_state_dict(self.tensors(params))
        return nn.Sequential(OrderedDict(features=embed, body=body))


@lru_cache(maxsize=16)
def model_of(spec: ModelSpec, device: str = "cpu") -> Model:
    """Build a model once a process."""
    return Model(spec, device)


def theta(params: Params) -> np.ndarray:
    """``[d + 1, outputs]`` float64 Theta of a linear model, the intercept as its last row."""
    weight, bias = np.asarray(params["weight"], np.float64), np.asarray(params["bias"], np.float64)
    return np.concatenate([weight.T, bias[None, :]])


def linear_params(matrix: np.ndarray, dtype: str = "float64") -> Params:
    """Inverse of ``theta``."""
    weight = np.ascontiguousarray(matrix[:-1].T).astype(dtype)
    return {"weight": weight, "bias": np.ascontiguousarray(matrix[-1]).astype(dtype)}


def flat(params: Params) -> np.ndarray:
    """All parameters as one float64 vector, in the order of their sorted names."""
    return np.concatenate([np.asarray(params[name], np.float64).ravel() for name in sorted(params)])


def unflat(vector: np.ndarray, like: Params) -> Params:
    """Inverse of ``flat``: parameters of the shapes, types and order of ``like``."""
    parts, begin = {}, 0
    for name in sorted(like):
        value = np.asarray(like[name])
        parts[name] = vector[begin : begin + value.size].reshape(value.shape).astype(value.dtype)
        begin += value.size
    return {name: parts[name] for name in like}


def _build(spec: ModelSpec, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """Return (feature map, trainable body). No BatchNorm: its statistics would mix records and leak them."""
    width = math.prod(spec.shape)
    embed: nn.Module = Clipped(spec.row_clip) if spec.row_clip else nn.Identity()
    if spec.features is not None:
        embed = RandomFourier(spec.features, width, dtype)
        width = spec.features.dimension
    if spec.kind in LINEAR:
        body: nn.Module = nn.Linear(width, spec.outputs, dtype=dtype)
    elif spec.kind == "mlp":
        first = nn.Linear(width, spec.hidden, dtype=dtype)
        body = nn.Sequential(first, nn.ReLU(), nn.Linear(spec.hidden, spec.outputs, dtype=dtype))
    elif spec.kind == "resnet18":
        body = resnet18(spec).to(dtype)
    else:
        body = _convolutional(spec, dtype)
    return embed, body


def _convolutional(spec: ModelSpec, dtype: torch.dtype) -> nn.Sequential:
    """conv(8)-relu-conv(16)-relu-linear, the convolutions as ``layers_of`` has them."""
    first, second = layers_of(spec.shape)
    return nn.Sequential(
        nn.Unflatten(-1, spec.shape),
        nn.Conv2d(first.seen[0], first.channels, first.kernel, STRIDE, first.padding, dtype=dtype),
        nn.ReLU(),
        nn.Conv2d(second.seen[0], second.channels, second.kernel, STRIDE, second.padding, dtype=dtype),
        nn.ReLU(),
        nn.Flatten(-3),
        nn.Linear(second.channels * math.prod(second.sides), spec.outputs, dtype=dtype),
    )
