"""Ctrl-C between steps, never inside one: half a step can be neither saved nor continued."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def whole_steps() -> Iterator[None]:
    """An interrupt that arrives inside is delivered at the end, to whatever handler was there before.

    Outside the main thread, where signals do not arrive, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if caught:
        signal.raise_signal(signal.SIGINT)
