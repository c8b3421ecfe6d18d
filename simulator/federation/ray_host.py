"""A host on Ray, in a module that imports nothing heavy.

Ray imports this module in a new process before it makes the host there. So the host sets first how often Python looks
for garbage, and loads torch and the app after that: that takes less time where Python looks seldom.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.app import Message


class RayHost:
    """One host: the ClientApp and its context in a process of its own, with a single torch and BLAS thread."""

    def __init__(self, node: int, hosts: int, models: bytes) -> None:
        import palimpsest.simulator.world.garbage  # noqa: F401, I001  # before what takes long to load

        import torch

        from palimpsest.simulator.federation.local_grid import _host_context, _load_app
        from palimpsest.simulator.world.models.given import receive

        torch.set_num_threads(1)
        receive(models)
        self._app = _load_app()
        self._context = _host_context(node, hosts)

    def handle(self, message: "Message") -> "Message":
        return self._app(message, self._context)

    def do(self, work: Callable[[Any], Any], piece: Any) -> Any:
        return work(piece)
