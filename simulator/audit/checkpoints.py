"""Checkpoints as people have them: safetensors, or a torch state dict. Nothing in them is executed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.records import Array

_WRAPPED = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the parameters beside an optimiser's state."""


def read_checkpoint(path: Path) -> dict[str, Array]:
    """The arrays of a checkpoint by name; half precision becomes float32.

    Raises:
        ModelError: it cannot be read, or holds something else than a state dict.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}")
    params = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    return {name: _array(value) for name, value in params.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no safetensors file: {error}") from None
    return tensors


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251  # executes nothing of it
    except Exception as error:  # torch raises whatever its reader of archives and its list of safe types raise
        raise ModelError(
            f"{path} cannot be read as a state dict ({str(error).splitlines()[0][:120]}); whole modules are pickles, "
            f"which are never loaded: store torch.save(model.state_dict(), PATH), or safetensors"
        ) from None
    for key in _WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(map(_is_entry, content.items())):
        raise ModelError(f"{path} holds a {type(content).__name__} that is no state dict: names and tensors are needed")
    return dict(content)


def _is_entry(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _array(value: Tensor) -> Array:
    array: Array = (value.float() if value.dtype in (torch.float16, torch.bfloat16) else value).detach().numpy()
    return array
