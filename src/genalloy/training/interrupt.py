"""Signals that ask a process to end, between steps and never inside one: half a step can be neither saved nor continued.

Ctrl-C is Python's own KeyboardInterrupt. SIGTERM (a scheduler, a shutdown) and SIGHUP (a closed terminal) become `Stopped`, so
that both leave by the same doors. A signal that was set to be ignored (SIGHUP under nohup) stays ignored.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

GENTLE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
ENDING = (signal.SIGINT, *GENTLE)


class Stopped(SystemExit):
    """A signal asked the process to end: its exit status is 128 + the signal's number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


STOPS = (KeyboardInterrupt, Stopped)


def stop(number: int, frame: Any = None) -> None:
    """What a signal means: KeyboardInterrupt for Ctrl-C, Stopped for the others."""
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise Stopped instead of ending the process at once."""
    with _handling([n for n in GENTLE if signal.getsignal(n) is signal.SIG_DFL], stop):
        yield


@contextmanager
def deferred_interrupt() -> Iterator[list[int]]:
    """A signal that arrives inside is delivered at the end, to whatever handler was there before; yields those that have arrived.

    Outside the main thread, where signals do not arrive, nothing is done.
    """
    caught: list[int] = []
    before = {n: signal.getsignal(n) for n in ENDING}
    heard = [n for n, handler in before.items() if handler is not signal.SIG_IGN]
    with _handling(heard, lambda number, frame: caught.append(number)):
        yield caught
    if caught and before[signal.Signals(caught[0])] in (signal.SIG_DFL, None):
        stop(caught[0])
    if caught:
        signal.raise_signal(caught[0])


@contextmanager
def _handling(numbers: list[Any], handler: Callable[[int, Any], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier or signal.SIG_DFL)
