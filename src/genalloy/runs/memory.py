"""Peak resident memory of this process."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Start a new peak where the system allows it (Linux); elsewhere the peak is the whole process's."""
    try:
        _RESET.write_text("5")
    except OSError:
        return


def peak_megabytes() -> float:
    """Peak resident memory in MiB."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
