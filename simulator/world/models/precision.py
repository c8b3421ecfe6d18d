"""How exactly a host multiplies where it computes in float32: set while it answers, and put back.

Float64 is never touched. PyTorch's settings are of the whole process, and a program may have set them to something of
its own, so the default is set as well: what is trained has the same bits whatever its process did before. One
thread computes at a time. What is put back is what held before; where that was inherited from
``torch.backends.fp32_precision``, it is set explicitly from then on.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch

from palimpsest.simulator.world.specs import Precision


@contextmanager
def multiplying(precision: Precision) -> Iterator[None]:
    """Have PyTorch take products and convolutions as exactly as asked for, for as long as the context lasts."""
    with _TURN:
        before = [place.fp32_precision for place in _PLACES]
        _set(_MEDIUM if precision == "medium" else _FULL)
        try:
            yield
        finally:
            _set(before)


def in_bfloat16(device: torch.device) -> torch.autocast:
    """A context in which a network's layers compute in bfloat16, and with them its gradient.

    Casts are not remembered: parameters change in place between one use and the next.
    """
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def _set(values: Sequence[str]) -> None:
    for place, value in zip(_PLACES, values, strict=True):
        place.fp32_precision = value


_PLACES: tuple[Any, ...] = attrgetter("mkldnn.matmul", "mkldnn.conv", "cuda.matmul", "cudnn.conv")(torch.backends)
"""Where PyTorch keeps what may be rounded: products and convolutions on the CPU, and on GPUs."""

_TURN = threading.RLock()
"""Of the thread that computes: at another's precision it would have other bits."""

_FULL = ("ieee",) * 4
_MEDIUM = ("bf16", "bf16", "tf32", "tf32")
"""As ``torch.set_float32_matmul_precision("medium")``, and of convolutions the same."""
