"""The window through which attacks without the parameters see a deletion; every record shown to a model is counted."""

from collections.abc import Callable

import numpy as np
import torch

from palimpsest.simulator.world.cards import Access
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.queries import Reply
from palimpsest.simulator.world.records import Array, Case, Params


class Window:
    """A ``QueriedCase`` on two models that it does not hand out.

    Attributes:
        queries: records shown to either model so far.
    """

    def __init__(self, case: Case, model: Model, access: Access) -> None:
        self.index, self.size, self.labels = case.index, case.size, case.labels
        self.queries = 0
        self._before = _answering(case.before, model, access)
        self._after = _answering(case.after, model, access)

    def before(self, x: Array) -> Reply:
        """Ask the model before."""
        self.queries += len(x)
        return self._before(x)

    def after(self, x: Array) -> Reply:
        """Ask the model after."""
        self.queries += len(x)
        return self._after(x)


def _answering(params: Params, model: Model, access: Access) -> Callable[[Array], Reply]:
    def answer(x: Array) -> Reply:
        return reply_of(public_scores(model.predict(params, x), model), access)

    return answer


def public_scores(scores: Array, model: Model) -> Array:
    """``[..., Q]`` what a service would show: probabilities where the model's loss has them, else its scores."""
    if not model.probabilities:
        return scores
    shown: Array = torch.softmax(torch.tensor(scores), -1).numpy()
    return shown


def reply_of(scores: Array, access: Access) -> Reply:
    """Withhold what is not granted."""
    labels = scores.argmax(axis=1)
    if access == "label":
        return Reply(labels)
    return Reply(labels, np.take_along_axis(scores, labels[:, None], 1)[:, 0], scores if access == "scores" else None)
