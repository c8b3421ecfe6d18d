"""Adam written out: the steps of ``torch.optim`` to the last bit, without what that imports."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from palimpsest.attacks.adam import Adam, one_cycle


def weights(dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((7, 5), (5,), (5, 1))
    return [torch.randn(shape, generator=draw, dtype=dtype).requires_grad_() for shape in shapes]


def loss(of: list[Tensor], step: int) -> Tensor:
    inner, offset, outer = of
    rows = torch.sin(torch.arange(21, dtype=inner.dtype) * (step + 1)).view(3, 7)
    return ((torch.tanh(rows @ inner + offset) @ outer - 0.3) ** 2).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_it_takes_the_steps_of_torch_optim(dtype: torch.dtype, decay: float) -> None:
    ours, theirs = weights(dtype), weights(dtype)
    adam, adamw = Adam(ours, (0.8, 0.95), decay), torch.optim.AdamW(theirs, betas=(0.8, 0.95), weight_decay=decay)
    for step in range(50):
        adamw.param_groups[0]["lr"] = rate = 0.1 * (1.0 - step / 60)
        adam.step(loss(ours, step), rate)
        adamw.zero_grad()
        loss(theirs, step).backward()  # type: ignore[no-untyped-call]
        adamw.step()
    assert all(torch.equal(our, their) for our, their in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("steps", [15, 60, 225])
def test_one_cycle_has_the_rates_of_torch_optim(steps: int) -> None:
    ours, theirs = weights(torch.float32), weights(torch.float32)
    adam, adamw = Adam(ours, decay=1e-2), torch.optim.AdamW(theirs, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adamw, 8e-3, total_steps=steps)
    for step, (rate, beta) in enumerate(one_cycle(8e-3, steps)):
        group = adamw.param_groups[0]
        assert (rate, beta) == (group["lr"], group["betas"][0])
        adam.step(loss(ours, step), rate, beta)
        adamw.zero_grad()
        loss(theirs, step).backward()  # type: ignore[no-untyped-call]
        adamw.step()
        schedule.step()
    assert all(torch.equal(our, their) for our, their in zip(ours, theirs, strict=True))


def test_it_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from palimpsest.attacks.adam import Adam; w = torch.ones(2, requires_grad=True);"
        "Adam([w]).step((w ** 2).sum(), 0.1); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
