"""Parameters of several models as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.records import Params


def stack(model: Model, models: Sequence[Params]) -> dict[str, Tensor]:
    """name -> ``[models, ...]``."""
    stacked = {name: torch.from_numpy(np.stack([params[name] for params in models])) for name in model.names}
    return {name: value.to(model.device, model.dtype) for name, value in stacked.items()}
