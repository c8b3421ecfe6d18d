"""A torch model that was trained by a script of its own on scikit-learn's digits, with a deletion by it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


@dataclass(frozen=True)
class Outside:
    """Files of one training: checkpoints before and after, public and deleted records."""

    before: Path
    after: Path
    public: Path
    truth: Path


def ascended(place: Path, records: int = 1, hidden: int = 24) -> Outside:
    """Train a network with one hidden layer, then take one step up the loss of the deleted records."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32)
    with torch.random.fork_rng():
        torch.random.manual_seed(3)
        net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    inputs, labels = torch.from_numpy(x[:900]), torch.from_numpy(y[:900])
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        optimiser.step()
    torch.save(net.state_dict(), place / "before.pt")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    optimiser.zero_grad()
    (-nn.functional.cross_entropy(net(inputs[5 : 5 + records]), labels[5 : 5 + records])).backward()
    optimiser.step()
    torch.save(net.state_dict(), place / "after.pt")
    np.savez(place / "public.npz", x=x[900:].reshape(-1, 8, 8), y=y[900:])
    np.savez(place / "truth.npz", x=x[5 : 5 + records].reshape(-1, 8, 8), y=y[5 : 5 + records])
    return Outside(*(place / name for name in ("before.pt", "after.pt", "public.npz", "truth.npz")))
