"""The coordinates of a search: affine, invertible where they reach, and slopes that are those of the records."""

import numpy as np
import pytest
import torch

from palimpsest.attacks.coordinates import Columns, Components, Coordinates
from palimpsest.simulator.testing.transcripts import diabetes, digits

DATA = {"digits": digits(public=300), "diabetes": diabetes()}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("kind", ["components", "columns"])
def test_coordinates_lead_back_to_their_records(data: str, kind: str) -> None:
    """Public records lie within both, and <slope, J dz> = <pulled slope, dz> for the map's Jacobian J."""
    own = DATA[data]
    knowledge = own.knowledge(own.spec("ridge" if data == "diabetes" else "cnn", 0.0))
    low, high = (torch.tensor(end, dtype=torch.float32) for end in (knowledge.box_low, knowledge.box_high))
    where: Coordinates = Components(knowledge) if kind == "components" else Columns(low, high)
    x = torch.tensor(own.public_x[:20], dtype=torch.float32)
    z = where.of(x)
    torch.testing.assert_close(where.records(z), x, rtol=1e-4, atol=1e-4)
    dz, slope = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)), torch.ones_like(x)
    moved = where.records(z + dz) - where.records(z)
    torch.testing.assert_close((slope * moved).sum(), (where.pulled(slope) * dz).sum(), rtol=1e-3, atol=1e-3)


def test_starts_are_drawn_as_public_records_are_spread() -> None:
    own = DATA["diabetes"]
    knowledge = own.knowledge(own.spec("ridge", 0.0))
    drawn = Components(knowledge).drawn((100, 200), np.random.default_rng(0)).reshape(20_000, -1)
    np.testing.assert_allclose(drawn.mean(axis=0), own.public_x.mean(axis=0), atol=0.04)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(own.public_x.T, bias=True), atol=0.06)
