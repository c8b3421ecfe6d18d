"""Where hosts compute: chosen once a run from what all of them have, and said aloud."""

from collections.abc import Mapping

from palimpsest.simulator.scenario.runtime import Device
from palimpsest.simulator.world.errors import RunFailure


class DeviceError(RunFailure):
    """Hosts lack the device that the scenario asks for."""


def choose(wanted: Device, has_gpu: Mapping[int, bool]) -> str:
    """One device for all hosts, since the last bits of a result depend on it.

    Args:
        wanted: ``auto``: a GPU where every host has one.
        has_gpu: of each host, by node.

    Raises:
        DeviceError: GPUs are asked for, and some host has none.
    """
    without = [node for node, has in has_gpu.items() if not has]
    if wanted == "cpu":
        return "cpu"
    if wanted == "cuda" and without:
        raise DeviceError(
            f"runtime.device = 'cuda', and {_share(without, has_gpu)}: take 'auto' or 'cpu', or another machine"
        )
    return "cpu" if without else "cuda"


def said_of(wanted: Device, chosen: str, has_gpu: Mapping[int, bool]) -> str:
    """A line for the user: what was chosen, and why."""
    if chosen == "cuda":
        return f"hosts compute on GPUs (runtime.device = {wanted!r}): digests are not those of the CPU"
    without = [node for node, has in has_gpu.items() if not has]
    return f"hosts compute on the CPU (runtime.device = {wanted!r}): {_share(without, has_gpu)}"


def _share(without: list[int], has_gpu: Mapping[int, bool]) -> str:
    if len(without) == len(has_gpu):
        return "PyTorch finds no GPU"
    return f"PyTorch finds no GPU on {len(without)} of {len(has_gpu)} hosts"
