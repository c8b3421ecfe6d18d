"""Signals of a command, in real processes."""

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from palimpsest.simulator.world.signals import ENDING

SAYS = """
import os, signal, sys, time
from palimpsest.simulator.world import signals
def ended(by): print(by, signals.received().name, signals.exit_code(), flush=True); sys.exit(signals.exit_code())
signals.end_on_signals()
"""
WAITS = SAYS + "\ntry:\n    print('ready', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    ended('sleep')"
CLEANS = SAYS + (
    "\ntry:\n    print('ready', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n"
    "    print('ready', flush=True); time.sleep(1.0); ended('cleaned')"
)
SWALLOWED = (
    SAYS
    + """
class Thing:
    def __del__(self): print('ready', flush=True); time.sleep(60)
try:
    Thing(); time.sleep(60)
except KeyboardInterrupt:
    ended('again')
"""
)
LIBRARY = (
    SAYS
    + """
try:
    with signals.kept(ending=(15,)):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        {inside}
    print('ready', flush=True); time.sleep(60)
except KeyboardInterrupt:
    ended('kept')
"""
)


def _said(code: str, numbers: Sequence[int], before: Sequence[str] = ()) -> tuple[str, int]:
    """Send signals, each when the process says that it is ready; return its last words and exit code."""
    with subprocess.Popen([*before, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number in numbers:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
        return process.communicate(timeout=60)[0].strip(), process.returncode


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize(("code", "last"), [(WAITS, "sleep"), (SWALLOWED, "again")])
def test_every_signal_interrupts_even_where_a_destructor_swallows_it(code: str, last: str, number: int) -> None:
    assert _said(code, [number]) == (f"{last} {signal.Signals(number).name} {128 + number}", 128 + number)


def test_a_second_signal_does_not_cut_the_ending_short() -> None:
    assert _said(CLEANS, [signal.SIGTERM, signal.SIGINT]) == ("cleaned SIGTERM 143", 143)


@pytest.mark.parametrize("inside", ["pass", "print('ready', flush=True); time.sleep(60)"])
def test_a_library_cannot_take_the_handlers_for_itself(inside: str) -> None:
    assert _said(LIBRARY.format(inside=inside), [signal.SIGTERM]) == ("kept SIGTERM 143", 143)


def test_what_the_caller_ignores_stays_ignored() -> None:
    code = SAYS + "print('ready', flush=True); time.sleep(0.5); print('alive')"
    assert _said(code, [signal.SIGHUP], before=["nohup"]) == ("alive", 0)
