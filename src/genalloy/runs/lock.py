"""One process at a time in a run's or a table's folder.

The system's own lock on the file `lock` decides, and falls with its process, however that ends; what stands in the file says
whose it is. Where another machine wrote it, its process cannot be asked, and the lock is believed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAME = "lock"


class InUse(ValueError):
    """Another process works in the folder."""


@contextmanager
def locked(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Inside, no other process may hold the folder, which is made where it is missing.

    Raises InUse, naming who holds it, and OSError, naming the folder, where it cannot be written.
    tell: hears of a lock that its process left behind (it was killed). The lock is removed at the end, and so is a new folder
    in which nothing was written.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _take(folder, tell)
    except OSError as error:
        _remove(missing)
        raise OSError(f"{folder} cannot be written ({error.strerror}); make room there, or choose another --out") from None
    try:
        yield
    finally:
        (folder / NAME).unlink(missing_ok=True)
        os.close(file)
        _remove(missing)


def _remove(folders: list[Path]) -> None:
    """Those that are empty, the innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _take(folder: Path, tell: Callable[[str], None]) -> int:
    """The open lock file, locked and signed."""
    path = folder / NAME
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(file, folder)
            if not _still(path, file):  # whoever held it has just removed it
                os.close(file)
                continue
            _sign(file, folder, tell)
        except OSError:  # a lock that cannot be signed is not left behind
            path.unlink(missing_ok=True)
            os.close(file)
            raise
        except BaseException:
            os.close(file)
            raise
        return file


def _lock(file: int, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(f"{folder} is in use by {_words(_owner(file))}; wait for it, stop it, or choose another --out") from None


def _still(path: Path, file: int) -> bool:
    with suppress(FileNotFoundError):
        return os.stat(path).st_ino == os.fstat(file).st_ino
    return False


def _sign(file: int, folder: Path, tell: Callable[[str], None]) -> None:
    """Write who holds the lock over who left it. Raises InUse where that was on another machine."""
    owner = _owner(file)
    if owner and owner.get("host") != socket.gethostname():
        raise InUse(f"{folder} is in use by {_words(owner)}; if that process is gone, delete {folder / NAME}")
    if owner:
        tell(f"{_words(owner)} left {folder} without giving it back (was it killed?); its lock is taken over")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}).encode(), 0)


def _owner(file: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(file, 10_000, 0))
        return {key: str(owner[key]) for key in ("process", "host", "since")}
    except (ValueError, KeyError, TypeError):
        return {}


def _words(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    return f"process {owner['process']} on {owner['host']}, since {owner['since']}"
