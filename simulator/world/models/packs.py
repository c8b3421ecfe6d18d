"""``vmap`` over models or records, for modules that it goes through and for those that it does not."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from palimpsest.simulator.world.models.model import Model

Dims = tuple[int | None, ...]
"""Of each argument: 0, if the first axis of its tensors is gone along; None, if it is the same every time."""


def over_models(model: Model, function: Callable[..., Any], dims: Dims) -> Callable[..., Any]:
    """``vmap`` over models, always as many at once as ``model.width`` says, so that bits depend on nobody else."""

    def packed(*args: Any) -> Any:
        count = _length(args, dims)
        if not model.width:
            return vmap(function, in_dims=dims)(*args)
        if model.width == 1:
            return _joined([_alone(function(*args_of)) for args_of in _cut(args, dims, range(count), 1)], count)
        begins = range(0, count, model.width)
        return _joined([vmap(function, in_dims=dims)(*some) for some in _cut(args, dims, begins, model.width)], count)

    return packed


def over_records(model: Model, function: Callable[..., Any], dims: Dims) -> Callable[..., Any]:
    """``vmap`` over records of one model, or a loop where the module has no rule for it."""
    if model.vmaps:
        whole: Callable[..., Any] = vmap(function, in_dims=dims)
        return whole

    def looped(*args: Any) -> Any:
        count = _length(args, dims)
        return _joined([_alone(function(*args_of)) for args_of in _cut(args, dims, range(count), 1)], count)

    return looped


def _length(args: Sequence[Any], dims: Dims) -> int:
    first = next(arg for arg, dim in zip(args, dims, strict=True) if dim == 0)
    return len(next(iter(first.values())) if isinstance(first, dict) else first)


def _cut(args: Sequence[Any], dims: Dims, begins: range, width: int) -> Iterator[list[Any]]:
    """Pieces of ``width``, the last one filled up with its last entry; of width 1, the entry without its axis.

    Nothing is copied but what is filled up: parameters of a whole pack would be, in every step.
    """
    count = _length(args, dims)
    for begin in begins:
        whole: int | slice = begin if width == 1 else slice(begin, begin + width)
        taken = whole if begin + width <= count else [min(begin + i, count - 1) for i in range(width)]
        yield [
            arg if dim is None else tree_map(lambda value, taken=taken: value[taken], arg)
            for arg, dim in zip(args, dims, strict=True)
        ]


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """``torch.stack``, which copies even a single tensor, as large as a model may be.

    The result must not be written to: of a single tensor it is a view, which may be expanded.
    """
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0].unsqueeze(0)


def _alone(result: Any) -> Any:
    return tree_map(lambda value: value.unsqueeze(0), result)


def _joined(parts: Sequence[Any], count: int) -> Any:
    """``torch.cat`` of trees of tensors, the first ``count`` rows; a single part is not copied: do not write to it."""
    return tree_map(lambda *values: (torch.cat(values) if len(values) > 1 else values[0])[:count], *parts)
