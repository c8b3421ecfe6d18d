"""Modules from elsewhere: built under a derived generator, and refused where training or an attack would not be sound.

A module has to be a function of its parameters and of one record at a time: then what is released is all there is to
it, each record has a gradient of its own, and the order in which models are stepped changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.card import ModelCard
from palimpsest.simulator.world.seeding import generator

_RECORDS = 4
"""Records that a module is tried on."""

_APART = 1e-4
"""Largest difference that rounding makes of a record's scores alone and among others."""

_REMEDY = "opacus.validators.ModuleValidator.fix(module) makes GroupNorm of it"


@dataclass(frozen=True)
class Tried:
    """What trying a module on a few records has shown.

    Attributes:
        head: name of the last linear layer, whose outputs are the scores; None: there is none with a bias.
        vmaps: whether ``vmap(grad)`` goes through it.
    """

    head: str | None
    vmaps: bool


def seeded(build: Callable[[], Any], seed: int) -> Any:
    """Call ``build`` with torch's generator seeded, and leave the generator as it was.

    The one place where it is seeded: modules draw their first parameters from it and from nothing else.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251 - forked: nobody else sees it
        return build()


def check_kind(kind: str, module: Any, dropout_off: bool) -> nn.Module:
    """Refuse what is no module, BatchNorm and Dropout; set the rate of Dropout to 0 where that is asked for.

    Raises:
        ModelError: says which layer, and the remedy.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"the model {kind!r} built a {type(module).__name__}; it must build a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ModelError(f"the model {kind!r} has no parameter that requires a gradient, so nothing can be trained")
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.track_running_stats:
            raise ModelError(
                f"the model {kind!r} has {type(layer).__name__} ({name or 'the module itself'}), whose statistics mix "
                f"records and change beside the parameters; {_REMEDY}"
            )
        key = "p" if isinstance(layer, nn.modules.dropout._DropoutNd) else "dropout"
        rate = getattr(layer, key, 0.0)
        if not isinstance(rate, float) or rate == 0.0:
            continue
        if not dropout_off:
            raise ModelError(
                f"the model {kind!r} has dropout of rate {rate} ({name or 'the module itself'}), whose masks would "
                f"depend on which clients are trained together; give it rate 0, or model.dropout = 'off'"
            )
        setattr(layer, key, 0.0)
    return module.eval() if dropout_off else module.train()


def check_builds(kind: str, build: Callable[[], nn.Module]) -> None:
    """Refuse a module whose parameters do not come from torch's generator alone.

    Raises:
        ModelError: two builds from one seed differ.
    """
    first, again = (seeded(build, 0).state_dict() for _ in range(2))
    for name, value in first.items():
        if name not in again or not torch.equal(value, again[name]):
            raise ModelError(
                f"the model {kind!r} is built twice from one seed, and {name} differs: runs could not be repeated; "
                f"draw it from torch's global generator, which is seeded for that"
            )


def tried(kind: str, card: ModelCard, module: nn.Module, shape: tuple[int, ...], outputs: int) -> Tried:
    """Try a module on a few records.

    Args:
        kind: its name.
        card: what it says of itself.
        module: as ``check_kind`` returned it.
        shape: of one record as the module takes it.
        outputs: that it must have.

    Raises:
        ModelError: says what it does that it must not, and the remedy.
    """
    dtype = next(module.parameters()).dtype
    drawn = generator(0, "model-check").random((_RECORDS, *shape))
    x = torch.from_numpy(np.asarray(drawn)).to(dtype)
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    scores = _scores(kind, module, x, seen)
    if scores.shape != (_RECORDS, outputs):
        raise ModelError(
            f"the model {kind!r} makes scores of shape {tuple(scores.shape)} of {_RECORDS} records {shape}; they must "
            f"be {(_RECORDS, outputs)}"
        )
    changed = [name for name, value in module.named_buffers() if not torch.equal(value, buffers[name])]
    if changed:
        raise ModelError(
            f"the model {kind!r} changes its buffer {changed[0]} in training, beside its parameters, so that releases "
            f"would not hold it; {_REMEDY}, or keep no such buffer"
        )
    _check_repeatable(kind, module, x, scores)
    _check_layers(kind, card, seen, x, scores)
    head = card.head if card.head is not None else _found_head(module, seen, scores)
    return Tried(head, _vmaps(kind, module, x))


def _scores(
    kind: str, module: nn.Module, x: Tensor, seen: dict[str, tuple[Tensor, Tensor]] | None = None, seed: int = 0
) -> Tensor:
    """The scores; ``seen`` gets the inputs and outputs of every linear layer."""

    def noting(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(_: nn.Module, given: Any, made: Any) -> None:
            if seen is not None:
                seen[name] = (given[0].detach().clone(), made.detach())

        return note

    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(noting(name)) for name, layer in layers]
    try:
        with torch.no_grad():
            scores: Tensor = seeded(lambda: module(x), seed)
    except Exception as error:  # whatever a foreign forward raises, the run that names the model is refused
        raise ModelError(
            f"the model {kind!r} cannot read {_RECORDS} records of shape {tuple(x.shape[1:])}: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return scores


def _check_repeatable(kind: str, module: nn.Module, x: Tensor, scores: Tensor) -> None:
    if not torch.equal(_scores(kind, module, x, seed=1), scores):
        raise ModelError(
            f"the model {kind!r} draws random numbers in its forward pass; take them out, or give model.dropout = "
            f"'off', which puts the module into evaluation mode"
        )
    alone = _scores(kind, module, x[:1])
    if (alone - scores[:1]).abs().max() > _APART * scores.abs().max().clamp(min=1.0):
        raise ModelError(
            f"the model {kind!r} gives a record other scores alone than among others, so that no gradient belongs to "
            f"one record; {_REMEDY} where it normalises over the batch"
        )


def _check_layers(
    kind: str, card: ModelCard, seen: dict[str, tuple[Tensor, Tensor]], x: Tensor, scores: Tensor
) -> None:
    """Refuse a card that names a layer that is not what it says."""
    if card.head is not None and (card.head not in seen or not _same(seen[card.head][1], scores)):
        raise ModelError(
            f"the card of the model {kind!r} says head = {card.head!r}, and no nn.Linear of that name puts out the "
            f"scores; name the one that does, or leave head out"
        )
    if card.first is not None and (card.first not in seen or not _same(seen[card.first][0], x.flatten(1))):
        raise ModelError(
            f"the card of the model {kind!r} says first = {card.first!r}, and no nn.Linear of that name reads the flat "
            f"record; name the one that does, or leave first out"
        )
    if card.linear and "" not in seen:
        raise ModelError(f"the card of the model {kind!r} says linear = True, and its module is no single nn.Linear")


def _found_head(module: nn.Module, seen: dict[str, tuple[Tensor, Tensor]], scores: Tensor) -> str | None:
    name, layer = list(module.named_modules())[-1]
    there = isinstance(layer, nn.Linear) and layer.bias is not None and name in seen
    return name if there and _same(seen[name][1], scores) else None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _vmaps(kind: str, module: nn.Module, x: Tensor) -> bool:
    """Whether two models' gradients can be had at once.

    Raises:
        ModelError: not even one's.
    """
    params = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}

    def total(params_of: dict[str, Tensor], records: Tensor) -> Tensor:
        scores: Tensor = functional_call(module, params_of, (records,)).sum()
        return scores

    try:
        grad(total)(params, x)
    except Exception as error:  # whatever torch.func says of an operation that it does not know
        raise ModelError(f"the model {kind!r} has no gradient that torch.func can take: {error}") from error
    stacked = {name: torch.stack([value, value]) for name, value in params.items()}
    try:
        vmap(grad(total))(stacked, torch.stack([x, x]))
    except Exception:  # no batching rule, or an operation in place: it is stepped by itself
        return False
    return True
