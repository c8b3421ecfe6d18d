"""How the models of many clients are stepped: together, or one after the other."""

import warnings
from typing import Literal, TypeAlias

from palimpsest.simulator.world.models.kinds import CARDS, model_card
from palimpsest.simulator.world.specs import ModelSpec

Stepping: TypeAlias = Literal["together", "one by one", "depends on the data"]

_SHAPES: tuple[tuple[int, ...], ...] = ((1, 8, 8), (3, 32, 32), (16,))
"""Of records that another package's model is tried on."""


def stepping_of(kind: str) -> Stepping:
    """Whether the models of many clients are stepped together, by written-out gradients or ``vmap``.

    A built-in model's card says it. Another package's module is built on small records and tried: where ``vmap`` does
    not go through it, it takes the plain loop.

    Args:
        kind: its name in the table of models.

    Raises:
        ModelError: its package cannot be imported.
    """
    card = model_card(kind)
    if kind in CARDS or card.gradients is not None or not card.vmapped:
        return "together" if card.gradients is not None or card.vmapped else "one by one"
    from palimpsest.simulator.world.models.model import Model  # torch, which the built-in ones do not need

    for shape in _SHAPES:
        about = {"kind": kind, "task": card.tasks[0], "shape": shape, "regularisation": 0.0, "dropout": "off"}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs = 10 if card.tasks[0] == "classification" else 1
                model = Model(ModelSpec.model_validate(about | {"outputs": outputs}))
        except Exception:  # whatever a module does with records that it is not made for
            continue
        return "together" if model.vmaps else "one by one"
    return "depends on the data"
