"""What ``run`` returns: the results of a run, for reading on, and as a notebook shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Self

import pandas as pd
from PIL import Image

from palimpsest.simulator.figures.pictures import pictures
from palimpsest.simulator.results import frames, html_page
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.results.schema import RunResults
from palimpsest.simulator.results.verdicts import headline
from palimpsest.simulator.tracking.upload import Tracked


@dataclass(frozen=True, repr=False)
class Result:
    """What a run left. A notebook shows the headline, a table of the arms and the first gallery.

    Attributes:
        directory: everything is in it.
        results: content of ``results.json``: figures are attributes, ``results.arms[0].cost.rounds``, and
            ``results["arms"]`` is the same as plain dictionaries and lists, as the JSON says it.
        tracked: what became of the upload to MLflow; None of a run that was opened.
    """

    directory: Path
    results: RunResults
    tracked: Tracked | None = None

    @classmethod
    def open(cls, directory: str | Path) -> Self:
        """Read a finished run.

        Raises:
            RunFilesError: there is none, or it is broken.
        """
        return cls(Path(directory), RunFiles.open(Path(directory)).results)

    def __repr__(self) -> str:
        count = len(self.results.arms)
        return f"Result({self.results.scenario!r}, {count} arm{'s' * (count != 1)}, {str(self.directory)!r})"

    def _repr_html_(self) -> str:
        shown = pictures(self._files)
        return html_page.fragment(self._files, [one for one in shown if one.name.startswith("gallery")] or shown)

    @property
    def headline(self) -> str:
        """What was found, in a sentence."""
        return headline(self.results.arms)

    @cached_property
    def arms(self) -> pd.DataFrame:
        """A row for each arm; ``results.frames.ARM_COLUMNS`` says what its columns hold."""
        return frames.arms(self._files)

    @cached_property
    def attacks(self) -> pd.DataFrame:
        """A row for each arm and attack: ``arm``, ``attack``, and all figures by their names in ``results.json``."""
        return frames.attacks(self._files)

    def requests(self) -> pd.DataFrame:
        """A row for each arm and deletion: ``arm``, and what ``RequestResult`` has, nested names joined by ``_``.

        So ``number``, ``name``, ``accepted``, ``utility_after``, ``success_<attack>``; empty for runs of schema 1.
        """
        return frames.requests(self._files)

    def scores(self) -> pd.DataFrame:
        """A row for each arm, attack and deleted record: ``cosine_centred``, ``label_correct``, ``rank`` and others."""
        return frames.scores(self._files)

    def rounds(self) -> pd.DataFrame:
        """A row for each arm and model of its server: ``round``, ``phase``, ``utility``, ``loss``, ``epsilon`` ..."""
        return frames.rounds(self._files)

    @property
    def figures(self) -> Mapping[str, Path]:
        """The files of the figures by their names, such as ``summary`` and ``gallery-softmax``."""
        return {picture.path.stem: picture.path for picture in pictures(self._files)}

    def plot(self, name: str) -> Image.Image:
        """A figure, which a notebook shows.

        Args:
            name: one of ``figures``; that of a variant may be left out where there is but one.

        Raises:
            ValueError: there is no such figure, or there are several.
        """
        known = self.figures
        fitting = [name] if name in known else [one for one in known if one.startswith(f"{name}-")]
        if len(fitting) != 1:
            near = get_close_matches(name, known, n=1)
            hint = f" did you mean {near[0]!r}?" if near and not fitting else ""
            count = f"several figures {name!r}" if fitting else f"no figure {name!r};{hint}"
            raise ValueError(f"there are {count} in {self.directory}: give one of {', '.join(known)}")
        with Image.open(known[fitting[0]]) as image:
            return image.copy()

    def to_html(self, file: str | Path) -> Path:
        """Write the report as one page, with its figures in it; return its path."""
        path = Path(file)
        path.write_text(html_page.page(self._files, pictures(self._files)), encoding="utf-8")
        return path

    @property
    def _files(self) -> RunFiles:
        return RunFiles(RunDirectory(self.directory), self.results)
