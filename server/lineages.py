"""Which streams of randomness a training shares with the first one, for each way to train again."""

from palimpsest.server.setup import Lineage
from palimpsest.simulator.world.protocols.federation import NOISE, PERTURBATION
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.seeding import Key


def retraining(case: UnlearningCase, coupling: str, stream: str, noise: Key) -> Lineage:
    """The whole training again without what a case forgets.

    Args:
        case: what is forgotten, and by which request.
        coupling: a way of ``server.unlearning.retrain``, which explains them.
        stream: prefix of the purposes of fresh streams.
        noise: stream of the noise of privacy.
    """
    number, independent = case.request.index, coupling == "independent"
    anew = independent or coupling == "reshuffled"
    return Lineage(
        branch=case.branch,
        forget=case.forgotten,
        init=(f"{stream}-init", number) if independent else ("init",),
        cohorts=(f"{stream}-cohorts", number) if independent else ("cohorts",),
        perturbation=(f"{stream}-perturbation", number) if independent else PERTURBATION,
        batches=(f"{stream}-batches", number) if anew else ("batches",),
        noise=NOISE if coupling == "same-noise" else noise,
        coins=NOISE if coupling == "same-coins" else None,
        compact=anew,
        cohorts_of_rest=independent,
        last=case.round,
    )


def recovery(case: UnlearningCase, done: int, rounds: int, stream: str, noise: Key) -> Lineage:
    """Rounds among those who have records left, in streams of their own.

    Args:
        case: what is forgotten, and by which request.
        done: rounds of recovery that lie behind.
        rounds: how many follow.
        stream: prefix of the purposes of fresh streams.
        noise: stream of the noise of privacy.
    """
    return Lineage(
        branch=case.branch,
        forget=case.forgotten,
        cohorts=(f"{stream}-recovery-cohorts", case.request.index),
        batches=(f"{stream}-recovery-batches", case.request.index),
        noise=noise,
        compact=True,
        cohorts_of_rest=True,
        first=case.round + done,
        last=case.round + done + rounds,
    )
