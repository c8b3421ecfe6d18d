"""What every method is: a frozen config that can act."""

from typing import Any, Protocol


class Config(Protocol):
    """A frozen pydantic model: its fields are its hyper-parameters."""

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """Return the hyper-parameters by name."""
        ...
