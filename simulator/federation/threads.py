"""One torch and BLAS thread a process: sums over more threads have other bits, and hosts would fight over cores."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController, threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold this process to one thread for as long as the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def hold_to_one_thread() -> None:
    """Hold this process to one thread from now on, whatever it has been set to in the meantime."""
    torch.set_num_threads(1)
    _libraries().limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads that this process has loaded; looking for them takes time."""
    return ThreadpoolController()
