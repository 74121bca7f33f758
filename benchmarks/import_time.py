"""Seconds that `import genalloy` adds to importing torch. Target: less than 0.5."""

from __future__ import annotations

import subprocess
import sys

CODE = "import time, torch; t = time.perf_counter(); import genalloy; {use}; print(time.perf_counter() - t)"


def seconds(use: str) -> float:
    runs = [
        subprocess.run([sys.executable, "-c", CODE.format(use=use)], capture_output=True, text=True, check=True) for _ in range(5)
    ]
    return min(float(run.stdout) for run in runs)


if __name__ == "__main__":
    print(f"import genalloy                      {seconds('pass'):.3f} s over torch (target 0.5)")
    print(f"import genalloy; genalloy.fit        {seconds('genalloy.fit'):.3f} s over torch")
