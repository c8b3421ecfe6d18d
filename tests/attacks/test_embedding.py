"""Inversion of random Fourier features."""

import numpy as np
import torch

from palimpsest.attacks.embedding import invert
from palimpsest.simulator.testing.transcripts import Data, cosines
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import FeatureSpec, Schema


def inverted(data: Data, bandwidth: float, noise: float = 0.0) -> Array:
    """What is found from the private records' 512 features, with noise of this length added."""
    spec = data.spec("ridge", 1.0, FeatureSpec(dimension=512, bandwidth=bandwidth, seed=4))
    features = model_of(spec).embed(torch.tensor(data.x)).numpy()
    wrong = noise / np.sqrt(512) * np.random.default_rng(0).standard_normal(features.shape)
    return invert(features + wrong, data.knowledge(spec))


def table(x: Array, public_x: Array) -> Data:
    schema = Schema(name="t", task="regression", shape=(x.shape[1],), outputs=1)
    return Data(schema, x, np.zeros(len(x)), public_x, np.zeros(len(public_x)))


def test_exact_features_give_the_record_and_noisy_ones_nearly() -> None:
    """Features have length 1; noise a fifth as long is averaged over 512 of them for 20 unknowns."""
    rng = np.random.default_rng(0)
    corners = np.array([[-1.0] * 20, [1.0] * 20])
    data = table(rng.uniform(-1, 1, (20, 20)), np.concatenate([rng.uniform(-1, 1, (50, 20)), corners]))
    np.testing.assert_allclose(inverted(data, 3.0), data.x, atol=1e-3)
    assert np.median(cosines(inverted(data, 3.0, noise=0.2), data.x)) > 0.95


def test_records_far_from_the_mean_are_found_from_their_neighbours() -> None:
    """Clusters ten bandwidths apart: at the public mean the loss has no slope towards any of them."""
    rng = np.random.default_rng(1)
    centres = 20.0 * np.eye(5)
    corners = np.array([[-2.0] * 5, [22.0] * 5])
    data = table(
        np.repeat(centres, 4, axis=0) + rng.uniform(-1, 1, (20, 5)),
        np.concatenate([np.repeat(centres, 10, axis=0) + rng.uniform(-1, 1, (50, 5)), corners]),
    )
    np.testing.assert_allclose(inverted(data, 2.0), data.x, atol=1e-2)


def test_answers_stay_in_the_box() -> None:
    rng = np.random.default_rng(2)
    data = table(rng.uniform(-2, 2, (10, 6)), rng.uniform(-1, 1, (40, 6)))
    found = inverted(data, 2.0)
    assert (found >= data.public_x.min(axis=0)).all()
    assert (found <= data.public_x.max(axis=0)).all()
