"""Which rules of unlearning the adversary can carry out on models of its own, and what a coupling shares."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge

Shared: TypeAlias = Literal["start and order", "start", "nothing"]
"""What a retraining has in common with the first training."""

_SHARED: Mapping[str, Shared] = {
    "same-order": "start and order",
    "same-coins": "start and order",
    "same-noise": "start and order",
    "reshuffled": "start",
}
"""By coupling; coins and noise are of defenses, which shadows have none of."""
_RETRAINED = ("retrain", "rollback", "sharded", "downdate", "newton")
"""Rules that end where a training without the deleted records would."""
_STEPPED = ("local-ascent", "fedrecovery", "puf")
"""Rules that leave a gradient of a length that is not public."""
_FOLLOWED: Mapping[str, Any] = {"start": "random", "schedule": "constant", "shards": 1}
"""What shadows can be trained by, of a public plan that may say otherwise; silence means the same."""


def shared_with(rule: Mapping[str, Any]) -> Shared:
    """What a retraining under a public rule shares with the first training; nothing where it does not say."""
    return _SHARED.get(rule.get("coupling", ""), "nothing")


def by_rounds(knowledge: PublicKnowledge) -> bool:
    """Whether the model is a network trained by federated averaging, for a number of rounds that is known.

    It was not where the server does something else than average the clients' models, where the learning rate changes
    over the rounds, where the first model was trained on the public sample, or where there are shards.
    """
    facts, plan = knowledge.facts, knowledge.facts.training
    if knowledge.model.linear or facts.algorithm != "fedavg" or "rounds" not in plan:
        return False
    strategy = plan.get("strategy", "fedavg")
    averages = strategy == "fedavg" or (strategy == "fedprox" and "proximal_mu" in plan)
    return averages and all(plan.get(key, value) == value for key, value in _FOLLOWED.items())


def not_simulated(knowledge: PublicKnowledge) -> str:
    """Why shadows cannot unlearn as the model attacked did, as a sentence without its end; empty where they can."""
    facts = knowledge.facts
    method = facts.unlearning.get("method", "")
    if facts.operator == "identity" and method not in _STEPPED:
        return ""
    if method in (*_RETRAINED, "none") or (facts.operator == "hessian" and facts.algorithm in ("closed-form", "lbfgs")):
        return ""
    if method == "finetune":
        if by_rounds(knowledge) and "rounds" in facts.unlearning:
            return ""
        return (
            "fine-tuning is repeated on networks of fedavg or fedprox alone, with start = 'random', shards = 1 and a "
            "constant schedule, where the rounds of training and of fine-tuning are public"
        )
    can = ", ".join(("ascent", *_RETRAINED, "finetune"))
    return f"shadows can unlearn by {can} or none, not by {method or 'a rule that is not told'!r}"
