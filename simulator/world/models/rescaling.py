"""The rescaling symmetry of networks whose hidden layers are followed by a ReLU.

A hidden unit or channel whose weights and bias are multiplied by d > 0, and whose output the next layer takes 1/d as
much of, leaves what the network computes as it is. Layers are those whose parameters are ``<position>.weight``.
"""

from collections.abc import Sequence

import numpy as np

from palimpsest.simulator.world.records import Array, Params

KINDS = ("mlp", "cnn")
"""Models of which this holds."""
_SWEEPS, _NEWTON = 30, 20
_WIDEST = 20.0
"""Of a logarithm of a scale."""


def hidden_sizes(params: Params) -> list[int]:
    """Units or channels of every hidden layer, from the first."""
    return [len(params[name]) for name in _weights(params)[:-1]]


def rescaled(params: Params, scales: Sequence[Array]) -> Params:
    """The same network with the units of its hidden layers at other scales.

    Args:
        params: of a network of ``KINDS``.
        scales: for each hidden layer ``[units]`` positive factors.
    """
    found = {name: np.asarray(value, np.float64) for name, value in params.items()}
    names = _weights(params)
    for name, after, scale in zip(names, names[1:], scales, strict=False):
        bias = name.replace("weight", "bias")
        found[name] = (found[name].reshape(len(scale), -1) * scale[:, None]).reshape(found[name].shape)
        found[bias] = found[bias] * scale
        outgoing = found[after].reshape(len(found[after]), len(scale), -1) / scale[None, :, None]
        found[after] = outgoing.reshape(found[after].shape)
    return {name: found[name].astype(value.dtype) for name, value in params.items()}


def nearest(params: Params, target: Params) -> Params:
    """The network of all rescalings of ``params`` that is nearest to ``target``, layer by layer in turn.

    A loss does not change along the rescalings, so that its gradient is orthogonal to them: of a step along a gradient
    this undoes a rescaling and leaves the step, up to its square.
    """
    names = _weights(params)
    precise = {name: np.asarray(value, np.float64) for name, value in params.items()}
    wanted = {name: np.asarray(value, np.float64) for name, value in target.items()}
    totals = [np.ones(size) for size in hidden_sizes(params)]
    for _ in range(_SWEEPS):
        for layer in range(len(totals)):
            here = rescaled(precise, totals)
            (a, b), (wanted_a, wanted_b) = (_unit(some, names, layer) for some in (here, wanted))
            totals[layer] = totals[layer] * _scales(a, b, wanted_a, wanted_b)
    return {name: value.astype(params[name].dtype) for name, value in rescaled(precise, totals).items()}


def _weights(params: Params) -> list[str]:
    """Names of the layers' weights, from the first."""
    names = [name for name in params if name.endswith(".weight")]
    return sorted(names, key=lambda name: int(name.partition(".")[0]))


def _unit(params: Params, names: Sequence[str], layer: int) -> tuple[Array, Array]:
    """``[units, in]`` weights and bias into each hidden unit, and ``[units, out]`` those from it."""
    weight = params[names[layer]]
    size = len(weight)
    into = np.concatenate([weight.reshape(size, -1), params[names[layer].replace("weight", "bias")][:, None]], 1)
    after = params[names[layer + 1]]
    out = after.reshape(len(after), size, -1).transpose(1, 0, 2).reshape(size, -1)
    return into, out


def _scales(a: Array, b: Array, wanted_a: Array, wanted_b: Array) -> Array:
    """``[units]`` the d that makes ||d a - wanted_a||^2 + ||b / d - wanted_b||^2 least, by Newton steps in log d."""
    aa, bb = (a**2).sum(1), (b**2).sum(1)
    ab, ba = (a * wanted_a).sum(1), (b * wanted_b).sum(1)
    tiny = np.finfo(np.float64).tiny
    log = 0.5 * np.log(np.maximum((wanted_a**2).sum(1), tiny) / np.maximum(aa, tiny)).clip(-_WIDEST, _WIDEST)
    for _ in range(_NEWTON):
        d = np.exp(log)
        slope = d**2 * aa - d * ab - bb / d**2 + ba / d
        curve = np.abs(2 * d**2 * aa - d * ab) + np.abs(2 * bb / d**2 - ba / d) + tiny
        log = (log - np.clip(slope / curve, -1.0, 1.0)).clip(-_WIDEST, _WIDEST)
    scales: Array = np.exp(log)
    return scales
