"""Products of the loss's Hessian and a vector over the records of many clients."""

import torch

from palimpsest.clients.gradient_sums import hessian_times
from palimpsest.clients.local_data import LocalData
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import BlockResult
from palimpsest.simulator.world.protocols.questions import Hessian


def hessian(data: LocalData, question: Hessian) -> list[BlockResult]:
    """Sums of Hessian-vector products over each block; see ``Hessian``."""
    model = model_of(question.spec, data.device)  # layers in bfloat16 have no second derivatives everywhere
    results = []
    for block in question.blocks:
        used, seen = torch.from_numpy(data.kept_mask(block)).to(model.device), 0
        params, vector = (model.tensors(some[block.model]) for some in (question.models, question.vectors))
        sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in params.items()}
        for x, y in data.reader.read_clients(model, block.clients):
            product = hessian_times(model, params, vector, x, y, used[seen : seen + len(y)])
            for name, value in product.items():
                sums[name] += value.double()
            seen += len(y)
        results.append(BlockResult({name: v.cpu().numpy() for name, v in sums.items()}, float(used.sum())))
    return results
