"""A run that is stopped in the middle continues to the same numbers as one that was left alone.

On the command line: Ctrl-C during `genalloy fit vae digits --out RUN`, then the same command with --resume.
python examples/resume.py [--smoke]
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from genalloy.runs.create import create_run, resume_run, trained_model
from genalloy.runs.settings import RunSettings


def main(smoke: bool) -> None:
    settings = RunSettings("vae", "digits", steps=30 if smoke else 1000, device="cpu")
    with TemporaryDirectory() as scratch:
        whole, broken = Path(scratch) / "whole", Path(scratch) / "broken"
        for _ in create_run(settings, whole).run():
            pass

        running = create_run(settings, broken).run()
        for progress in running:
            if progress.done == 17:
                running.close()  # what Ctrl-C does: the state after this step is written, then the run ends
                break
        print("stopped after step", progress.done, "with", sorted(p.name for p in broken.iterdir()))

        *_, last = resume_run(broken).run()
        print("finished at step", last.done)
        a, b = trained_model(whole).state_dict(), trained_model(broken).state_dict()
        print("largest difference of any weight:", max(float((a[k].double() - b[k].double()).abs().max()) for k in a))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
