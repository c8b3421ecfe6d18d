"""Populations of any size whose records are made where they are read, and stored nowhere.

``synthetic:mnist-like`` draws digits from a mixture of ten Gaussians, one a class, in the space of the leading
principal components of 5,000 MNIST digits. Client k's records are a pure function of (data configuration, seed, k).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from threadpoolctl import threadpool_limits

from palimpsest.simulator.world.data.datasets import MNIST_LIKE, load_source
from palimpsest.simulator.world.data.partition import PartitionConfig
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.data.preview import Preview
from palimpsest.simulator.world.data.reading import Note
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Schema

COMPONENTS = 40
"""Principal components that digits are drawn in; they hold about four fifths of MNIST's variance."""

_FAINT = 0.1
"""What is darker than this is black, as most of a digit's picture is; the Gaussians alone would leave a grey haze."""

_MOST = 10_000
"""Records that the public sample and the test data have at most: they do not grow with the population for ever."""

_CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class SyntheticPopulation(AbstractPopulation):
    """A population of made-up digits.

    Attributes:
        seed: of the scenario.
        count: clients.
        each: records of every client.
        division: which classes a client has: all alike (iid), in proportions of Dirichlet(alpha) drawn for each
            client, or a few classes in equal parts (pathological).
        mean, basis: ``[d]`` and ``[COMPONENTS, d]`` float32, from components to pixels.
        centres, roots: ``[10, COMPONENTS]`` and ``[10, COMPONENTS, COMPONENTS]`` float32: components of class c are
            ``centres[c] + roots[c] z``, z standard normal.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = (*AbstractPopulation.ARRAYS, "mean", "basis", "centres", "roots")
    DRAWN: ClassVar[bool] = True

    seed: int
    count: int
    each: int
    division: PartitionConfig
    mean: Array
    basis: Array
    centres: Array
    roots: Array

    def about(self) -> dict[str, Any]:
        """See ``AbstractPopulation.about``."""
        counts = {"seed": self.seed, "count": self.count, "each": self.each}
        return super().about() | counts | {"division": self.division.model_dump(mode="json")}

    @classmethod
    def restored(cls, about: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """See ``AbstractPopulation.restored``."""
        return super().restored(about | {"division": PartitionConfig.model_validate(about["division"])}, arrays)

    @property
    def sizes(self) -> Array:
        """``[clients]``, one number over and over: it takes no memory."""
        return np.broadcast_to(np.int64(self.each), self.count)

    def rows(self, client: int, records: tuple[int, ...] | None = None) -> Array:
        """See ``AbstractPopulation.rows``."""
        return client * self.each + (np.arange(self.each) if records is None else np.asarray(records, dtype=np.int64))

    def take(self, rows: Array) -> tuple[Array, Array]:
        """See ``AbstractPopulation.take``."""
        owners = np.asarray(rows) // self.each
        clients, position = np.unique(owners, return_inverse=True)
        x, y, _ = self.gather(clients.tolist())
        chosen = position * self.each + np.asarray(rows) % self.each
        return x[chosen], y[chosen]

    def gather(self, clients: Sequence[int]) -> tuple[Array, Array, dict[int, int]]:
        """See ``AbstractPopulation.gather``; the arrays hold these clients' records alone."""
        begins = {client: position * self.each for position, client in enumerate(dict.fromkeys(clients))}
        x = np.empty((len(begins) * self.each, self.schema.width), dtype=np.float32)
        y = np.empty(len(x), dtype=np.int64)
        for client, begin in begins.items():
            rows = slice(begin, begin + self.each)
            rng, y[rows] = self._labels(client)
            self._draw(rng, y[rows], x[rows])
        return x, y, begins

    def labels(self) -> Array:
        """See ``AbstractPopulation.labels``: every client is visited, for its classes alone."""
        return np.concatenate([self._labels(client)[1] for client in range(self.count)])

    def _labels(self, client: int) -> tuple[np.random.Generator, Array]:
        """``[each]`` classes of a client, and the generator that goes on to draw its digits."""
        rng, division = generator(self.seed, "synthetic-client", client), self.division
        if division.scheme == "iid":
            return rng, rng.integers(_CLASSES, size=self.each)
        if division.scheme == "dirichlet":
            shares = rng.dirichlet(np.full(_CLASSES, division.alpha))
            return rng, np.searchsorted(np.cumsum(shares)[:-1], rng.random(self.each), side="right")
        few = rng.choice(_CLASSES, size=min(division.classes_per_client, _CLASSES), replace=False)
        return rng, np.resize(few, self.each)

    def _draw(self, rng: np.random.Generator, y: Array, out: Array) -> None:
        """Draw digits of classes ``y`` into ``out``: one product a call, so that its bits depend on the call alone."""
        noise = rng.standard_normal((len(y), COMPONENTS), dtype=np.float32)
        components = self.centres[y] + np.matmul(self.roots[y], noise[:, :, None])[:, :, 0]
        np.matmul(components, self.basis, out=out)
        out += self.mean
        np.multiply(out, out >= _FAINT, out=out)
        np.minimum(out, 1.0, out=out)

    def drawn(self, purpose: str, size: int) -> tuple[Array, Array]:
        """So many records that belong to no client, of all classes alike."""
        rng = generator(self.seed, f"synthetic-{purpose}")
        y = rng.integers(_CLASSES, size=size)
        x = np.empty((size, self.schema.width), dtype=np.float32)
        self._draw(rng, y, x)
        return x, y


def synthetic_population(
    clients: int, each: int, division: PartitionConfig, test_fraction: float, public_fraction: float, seed: int
) -> SyntheticPopulation:
    """Make a population of digits like MNIST's.

    Args:
        clients: how many.
        each: records of every client.
        division: which classes a client has.
        test_fraction, public_fraction: of all records, the clients' included; at most 10,000 each.
        seed: of the scenario.
    """
    total = clients * each / (1.0 - test_fraction - public_fraction)
    sizes = {"test": test_fraction * total, "public": max(1.0, public_fraction * total)}
    nothing: dict[str, Any] = {f"{part}_{name}": np.zeros(0) for part in sizes for name in "xy"}
    with threadpool_limits(1):  # the number of threads decides about bits
        mean, basis, centres, roots = _mixture()
        bare = SyntheticPopulation(
            schema=_SCHEMA, seed=seed, count=clients, each=each, division=division,
            mean=mean, basis=basis, centres=centres, roots=roots,
            box_low=np.zeros(len(mean)), box_high=np.ones(len(mean)), preprocessing={}, **nothing,
        )  # fmt: skip
        parts: dict[str, Any] = {}
        for part, size in sizes.items():
            parts[f"{part}_x"], parts[f"{part}_y"] = bare.drawn(part, min(round(size), _MOST))
    drawn = len(parts["public_y"]), len(parts["test_y"])
    preview = Preview(
        source=MNIST_LIKE, task="classification", records=clients * each + sum(drawn), private=clients * each,
        public=drawn[0], test=drawn[1], shape=_SCHEMA.shape, range=(0.0, 1.0), clients=clients,
        sizes=(each, each, each),
        notes=(Note(kind="read", text="records are drawn where they are read, of 10 classes"),),
    )  # fmt: skip
    return replace(bare, **parts, preview=preview)


_SCHEMA = Schema(
    name=MNIST_LIKE,
    task="classification",
    shape=(1, 28, 28),
    outputs=_CLASSES,
    class_names=tuple(str(digit) for digit in range(_CLASSES)),
)


def _mixture() -> tuple[Array, Array, Array, Array]:
    """Fit mean, basis, centres and roots to MNIST's digits."""
    raw = load_source("mnist5k")
    x = raw.x.reshape(len(raw.x), -1).astype(np.float64) / 255.0
    mean = x.mean(0)
    _, axes = np.linalg.eigh((x - mean).T @ (x - mean))
    basis = axes[:, ::-1][:, :COMPONENTS].T
    components = (x - mean) @ basis.T
    of_class = [components[raw.y == label] for label in range(_CLASSES)]
    centres = np.stack([members.mean(0) for members in of_class])
    roots = np.stack([np.linalg.cholesky(np.cov(members, rowvar=False)) for members in of_class])
    return tuple(part.astype(np.float32) for part in (mean, basis, centres, roots))  # type: ignore[return-value]
