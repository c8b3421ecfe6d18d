"""Signals that end a command: the first one interrupts it, whatever it is doing; those after it let it end in order."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a command to end: Ctrl-C, ``kill`` or a scheduler, and a terminal that is closed."""
PATIENCE = 90.0
"""Seconds that a command has to end in order once it was asked to; then it ends as it is."""
_AGAIN = 0.1


@dataclass
class _State:
    """Of this process.

    Attributes:
        number: the signal that came first; 0: none.
        raised: whether the interruption that it means is under way.
    """

    number: int = 0
    raised: bool = False


_state = _State()


def end_on_signals() -> None:
    """Have every signal in ``ENDING`` raise ``KeyboardInterrupt`` once; what the caller ignores stays ignored."""
    sys.unraisablehook = _repeated
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """The command has ended, and its exit code is known."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def received() -> signal.Signals:
    """The signal that interrupted this process; SIGINT where Python itself has handled it."""
    return signal.Signals(_state.number or signal.SIGINT)


def exit_code() -> int:
    """Of a command that was interrupted, as shells have it."""
    return 128 + received()


@contextlib.contextmanager
def kept(ending: Collection[int] = ()) -> Iterator[Callable[[], None]]:
    """Keep this process's handlers of signals from a library that sets its own, in Python or beneath it.

    Args:
        ending: exit codes with which the library's handler of SIGTERM ends the process.

    Yields:
        What sets the handlers at once, where the library goes on for long after it has set its own.

    Raises:
        KeyboardInterrupt: the library ended the process at a signal that this process handles.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only there may handlers be set
        return
    handlers = {number: signal.getsignal(number) for number in ENDING}
    ended = False

    def set_again() -> None:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)

    try:
        yield set_again
    except SystemExit as error:
        ended = error.code in ending
        if not ended:
            raise
    finally:
        set_again()
    if ended:
        signal.raise_signal(signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _state.raised:
        return
    if not _state.number:
        _state.number = number
        timer = threading.Timer(PATIENCE, _give_up)
        timer.daemon = True
        timer.start()
    _state.raised = True
    raise KeyboardInterrupt


def _repeated(unraisable: Any) -> None:
    """An interruption that a destructor or a library's callback has swallowed comes once more."""
    if _state.number and isinstance(unraisable.exc_value, KeyboardInterrupt):
        _state.raised = False
        main = threading.main_thread().ident  # which may be waiting for the system: it has to be the one that is woken
        threading.Timer(_AGAIN, signal.pthread_kill, (main, _state.number)).start()
        return
    sys.__unraisablehook__(unraisable)


def _give_up() -> None:
    """End at once: what this process has started ends with it."""
    with contextlib.suppress(OSError, ValueError):
        name = received().name
        print(f"ended by {name}, {PATIENCE:.0f} s after it: something did not let go", file=sys.stderr, flush=True)
    os._exit(exit_code())
