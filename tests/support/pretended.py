"""A device that is none: tensors that compute on the CPU and refuse to meet tensors of the CPU, as those of a GPU do.

They claim to be on torch's ``meta`` device, which needs no hardware. What computes on a GPU must bring everything there
that it computes with: here, as there, an operation on tensors of both places is an error, and so is reading a tensor
that was not brought back. What comes out can be compared with what the CPU gives bit for bit, since it is the CPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "meta"
_MOVING = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Pretended(Tensor):
    """A tensor of the CPU's that says it is elsewhere."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Pretended":
        how = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: Pretended = Tensor._make_wrapper_subclass(cls, held.shape, **how, device=DEVICE)  # type: ignore[attr-defined]
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Without the mode, as where a tensor is read afterwards."""
        return _compute(function, args, kwargs or {})


class PretendedDevice(TorchDispatchMode):
    """Within it, what is asked of ``DEVICE`` is pretended."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation, also those that make or move a tensor."""
        return _compute(function, args, kwargs or {})


def _compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    elsewhere = any(isinstance(tensor, Pretended) for tensor in given)
    if elsewhere and function not in _MOVING:  # numbers may come from anywhere
        strangers = [tensor for tensor in given if not isinstance(tensor, Pretended) and tensor.dim()]
        assert not strangers, f"{function} of tensors in two places"
    asked = kwargs.get("device")
    if asked is not None:
        elsewhere, kwargs = torch.device(asked).type == DEVICE, kwargs | {"device": "cpu"}
    args_held, kwargs_held = tree_map(_bare, (args, kwargs))
    found = function(*args_held, **kwargs_held)
    if function._schema.name.endswith("_"):  # in place
        return args[0]
    return tree_map(lambda leaf: Pretended(leaf) if isinstance(leaf, Tensor) else leaf, found) if elsewhere else found


def _bare(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, Pretended) else leaf
