"""Networks that a program hands over instead of naming a model.

They travel to the processes that this one starts by cloudpickle, over the pipe that it holds to them, and never by a
file: what is unpickled was pickled by the same program.
"""

import copy
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.card import ModelCard

if TYPE_CHECKING:
    from torch import nn

PREFIX = "given:"
"""Before the network's name and digest, as the model's kind in a scenario that was run with ``model=``."""

_GIVEN: dict[str, tuple[Any, ModelCard]] = {}


def remember(model: Any) -> str:
    """Keep a network for this process, and return the kind of model that it is then.

    Args:
        model: a ``torch.nn.Module``, whose parameters are where every training begins; a class of modules, or a
            function that returns one, called with the schema if it takes an argument, whose parameters are drawn anew
            for each seed; or a ``ModelCard``.

    Raises:
        ModelError: it is something else.
    """
    card, named = _card_of(model)
    name = f"{PREFIX}{getattr(named, '__name__', type(named).__name__)}-{_digest(model, named)[:16]}"
    _GIVEN[name] = (model, card)
    return name


def recall(name: str) -> ModelCard:
    """The card of the network that ``remember`` gave this name.

    Raises:
        ModelError: this process does not have it.
    """
    if name not in _GIVEN:
        raise ModelError(
            f"{name!r} stands for a network that a Python program handed over; give the same one again by "
            f"run(scenario, model=...) or resume(directory, model=...), or announce it in a package"
        )
    return _GIVEN[name][1]


def described(name: str) -> str:
    """Import path of a network's class or function, and the SHA-256 of its source and first parameters."""
    model, _ = _GIVEN[name]
    _, named = _card_of(model)
    path = f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', type(named).__qualname__)}"
    return f"{path}, sha256 {_digest(model, named)}"


def carried() -> bytes:
    """All that this process was given, for a process that it starts; empty: nothing.

    Raises:
        ModelError: a network cannot be pickled.
    """
    if not _GIVEN:
        return b""
    import cloudpickle

    own = {module for model, _ in _GIVEN.values() for module in _modules_of(model)}
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        content: bytes = cloudpickle.dumps({name: model for name, (model, _) in _GIVEN.items()})
    except Exception as error:  # whatever an object says that holds what cannot be pickled
        raise ModelError(f"the network given as model=... cannot be sent to other processes: {error}") from error
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
    return content


def receive(content: bytes) -> None:
    """Take over what the process that started this one ``carried``."""
    if content:
        import cloudpickle

        _GIVEN.update({name: (model, _card_of(model)[0]) for name, model in cloudpickle.loads(content).items()})


def _card_of(model: Any) -> tuple[ModelCard, Any]:
    """The card, and the class or function whose source the network is."""
    if isinstance(model, ModelCard):
        return model, model.build
    from torch import nn

    if isinstance(model, nn.Module):
        return ModelCard(lambda schema, options: copy.deepcopy(model), "given by a program"), type(model)
    if not callable(model):
        raise ModelError(
            f"model is a {type(model).__name__}; it must be a torch.nn.Module, a class of modules or a function that "
            f"returns one, or a ModelCard"
        )
    return ModelCard(_building(model), "given by a program"), model


def _building(build: Callable[..., Any]) -> Callable[..., Any]:
    """``build`` as a card has it: called with the schema if it takes an argument that has no default."""
    needed = [
        parameter
        for parameter in inspect.signature(build).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise ModelError(
            f"{getattr(build, '__name__', build)} takes {len(needed)} arguments; a class or function given as model "
            f"takes none, or the schema of the data"
        )
    return (lambda schema, options: build(schema)) if needed else (lambda schema, options: build())


def _digest(model: Any, named: Any) -> str:
    """SHA-256 of the sources, and of an instance's form and parameters."""
    found = hashlib.sha256(f"{getattr(named, '__module__', '')}:{getattr(named, '__qualname__', named)}".encode())
    for part in _written_by_the_user(model, named):
        try:
            found.update(inspect.getsource(part).encode())
        except (OSError, TypeError):
            continue  # typed at a prompt: its name stands for it
    if hasattr(model, "state_dict") and not isinstance(model, type):
        found.update(repr(model).encode())
        for name, value in sorted(model.state_dict().items()):
            found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _written_by_the_user(model: Any, named: Any) -> Iterator[Any]:
    """The classes of a network that are not torch's, in order, or the function that builds it."""
    parts: list[Any] = [named]
    if hasattr(model, "modules") and not isinstance(model, type):
        whole: nn.Module = model
        parts += [type(part) for part in whole.modules()]
    for part in dict.fromkeys(parts):
        if not getattr(part, "__module__", "torch").startswith("torch."):
            yield part


def _modules_of(model: Any) -> Iterator[Any]:
    """The modules of the user's own, not installed, that a network's code stands in."""
    _, named = _card_of(model)
    for part in _written_by_the_user(model, named):
        module = sys.modules.get(part.__module__)
        file = getattr(module, "__file__", None)
        if module is None or module.__name__ == "__main__" or file is None:
            continue
        if not any(Path(file).is_relative_to(place) for place in {sys.prefix, sys.base_prefix}):
            yield module
