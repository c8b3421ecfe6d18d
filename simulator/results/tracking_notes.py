"""What a run's directory keeps of its tracking: by which name tracking stores know it, in which it is, how it ended.

The name is drawn when the run is begun, and stands in ``provenance.json`` too: with a name of its own a run whose
``tracking.json`` is lost or broken would be in its store a second time.
"""

import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.simulator.results.reading import RunFilesError, content_of
from palimpsest.simulator.world.files import write_atomically


@dataclass(frozen=True)
class TrackingNotes:
    """The file ``tracking.json`` of a run's directory.

    Attributes:
        path: of the file, which need not exist.
        begun_as: the name that the run was begun with; empty where it does not say, as runs of older versions do not.
    """

    path: Path
    begun_as: Callable[[], str]

    def identity(self) -> str:
        """What marks this directory's runs in every tracking store; made when a run of an older version is first asked.

        Raises:
            RunFilesError: it is lost, or two files say different ones: the run would be tracked a second time.
        """
        begun, known = self.begun_as(), self._known().get("id")
        named = known if isinstance(known, str) else ""
        if begun and named not in ("", begun):
            raise RunFilesError(
                f"{self.path} says that the run is tracked as {named[:80]!r}, and provenance.json beside it as "
                f"{begun!r}: restore the one that was changed, or remove {self.path.name}"
            )
        if begun or named:
            return begun or named
        if os.path.lexists(self.path):
            raise RunFilesError(
                f"{self.path} is broken, so that it is not known what the run is called where it is tracked: restore "
                f"it, or remove it to track the run as a new one"
            )
        return self._note({"id": uuid.uuid4().hex})

    def note_end(self, how: str) -> None:
        """Write down how a run ended that did not finish, for who uploads it later; empty: it goes on."""
        self._note({"ended": how})

    def note_store(self, address: str) -> None:
        """Write down the file that the run is tracked in, for who uploads the rest from another working directory."""
        self._note({"store": address})

    def store(self) -> str:
        """Address of the file that the run was tracked in; empty: it was in none, or somewhere else."""
        return str(self._known().get("store", ""))

    def ended(self) -> str:
        """How a run ended that did not finish; empty where that is not known."""
        return str(self._known().get("ended", ""))

    def _note(self, about: Mapping[str, str]) -> str:
        """Write something down beside what is there; return the identity."""
        kept = {**self._known(), **about}
        kept["id"] = about["id"] if "id" in about else self.identity()
        write_atomically(self.path, json.dumps({key: value for key, value in kept.items() if value}))
        return str(kept["id"])

    def _known(self) -> dict[str, Any]:
        """What the file says; nothing where there is none, or where it cannot be read."""
        try:
            return content_of(self.path)
        except RunFilesError:
            return {}
