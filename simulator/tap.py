"""``Tap``: what somebody else's Flower strategy sends out becomes a transcript (see docs/audit.md)."""

from palimpsest.simulator.federation.tap import Tap

__all__ = ["Tap"]
