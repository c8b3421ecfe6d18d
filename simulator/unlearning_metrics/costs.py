"""What unlearning has cost beside retraining, for ``results.json``."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from palimpsest.simulator.federation.federation import Costs
from palimpsest.simulator.unlearning_metrics.reference import Reference


def cost(
    spent: Costs, seconds: float, stored: int, reference: Reference, utilities: Mapping[int, float]
) -> dict[str, Any]:
    """The entry ``cost`` of one arm.

    Speed-up over retraining at equal utility is what retraining costs up to its first round that is as good on the test
    records as what the method ended in (all its rounds where it never is), over what the method costs: below 1,
    retraining would have been as good for less. It is absent where utility is, or where nothing was spent.

    Args:
        spent: what the arm asked of clients.
        seconds: its wall time, broadcasting left out.
        stored: bytes that the server kept for it.
        reference: the hidden retrainings; what one costs is absent where there are none.
        utilities: of the models that completed requests ended in, by request index.
    """
    entry: dict[str, Any] = {
        "unlearning_seconds": seconds,
        "rounds": spent.rounds,
        "client_updates": spent.client_updates,
        "client_seconds": spent.client_seconds,
        "bytes_up": spent.bytes_up,
        "bytes_down": spent.bytes_down,
        "server_bytes_stored": stored,
    }
    if reference.models:
        entry |= {
            "retraining_seconds": reference.seconds,
            "retraining_client_updates": reference.costs.client_updates,
            "retraining_client_seconds": reference.costs.client_seconds,
        }
    shares = [reference.share_to(index, utility) for index, utility in utilities.items() if index in reference.curves]
    if not shares:
        return entry
    share = float(np.mean(shares)) * len(shares) / len(reference.models[0])
    entry["speed_up_seconds"] = share * reference.seconds / seconds
    if spent.client_updates:
        entry["speed_up_client_updates"] = share * reference.costs.client_updates / spent.client_updates
    return entry
