"""A tiny run of two phases with a rival, driven from outside: python toy_run.py MODE FOLDER.

whole: to the end. kill: a checkpoint after 7 steps, then SIGKILL in the middle of step 10. interrupt: Ctrl-C inside step 9.
nan: data turn to NaN at step 9. kills: eight children, saving after every step, are killed at random times. resume: continue.
`whole` and `resume` write weights.safetensors and curves.json.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from genalloy.core.errors import Diverged
from genalloy.data.dataset import Dataset
from genalloy.data.space import Space
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.mlp import MLP
from genalloy.objectives.adversarial import Adversarial, Critic
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase
from genalloy.runs import train
from genalloy.runs.settings import RunSettings
from genalloy.runs.train import Trainer
from genalloy.training.options import Adam, Training
from genalloy.transforms.coupling import Coupling, FixedMask, alternating

SETTINGS = RunSettings("toy", "toy", steps=24, seed=3, planned=(18, 6))


def dataset(nan: bool = False) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(70, 2, generator=generator) * torch.tensor([1.0, 0.4]) + 0.3
    train = x[:45].clone()
    if nan:
        train[11] = torch.nan
    return Dataset("toy", Space((2,)), train, x[45:57], x[57:])


def composition() -> Composition:
    torch.manual_seed(0)
    layers = [Coupling(FixedMask(alternating(2, odd)), MLP(((1,),), 2, (8,))) for odd in (False, True)]
    model = Flow(StandardNormal((2,)), layers, (2,))
    options = Training(Adam(1e-2), clip=1.0, ema=0.9)
    game = MaximumLikelihood() + 0.2 * Adversarial(Critic(MLP(((2,),), 1, (8,)), turns=2))
    return Composition(model, [Phase(game, options, batch=10), Phase(MaximumLikelihood(), options, batch=16)], 24)


def numbers(trainer: Trainer) -> dict[str, Any]:
    memory = trainer.memory
    weights = {k: v.clone() for k, v in trainer.composition.state_dict().items()}
    return {"weights": weights, "train": memory.train, "validation": memory.validation}


def signal_inside(number: int, call: int) -> None:
    """Send a signal to this process during the critic's `call`-th loss, between two players' steps."""
    original, count = Critic.loss, [0]

    def loss(self: Critic, play: object) -> torch.Tensor:
        count[0] += 1
        if count[0] == call:
            os.kill(os.getpid(), number)
        return original(self, play)  # type: ignore[arg-type]

    Critic.loss = loss  # type: ignore[assignment,method-assign]


def kills(folder: Path) -> None:
    """Children that go on from where the last one was killed, each after a random time; a checkpoint after each step."""
    moments = random.Random(5)
    train.SAVE_EVERY, train.SAVING = 0.0, 1e9
    for trial in range(2):  # imports and caches first, so that the children's time goes into steps; then how long all steps take
        began, trainer = time.monotonic(), Trainer(composition(), dataset(), SETTINGS, folder / f"first-{trial}")
        trainer._pause = 0.0
        deque(trainer.run(), maxlen=0)
    whole = time.monotonic() - began
    Trainer(composition(), dataset(), SETTINGS, folder).checkpoint()
    for _ in range(8):
        moment = whole * moments.uniform(0.02, 0.4)
        child = os.fork()
        if child == 0:
            trainer = Trainer.resume(folder, dataset(), SETTINGS)
            trainer._pause = 0.0
            signal.setitimer(signal.ITIMER_REAL, moment)  # unhandled, SIGALRM ends a process as SIGKILL does
            for _ in trainer.run():
                pass
            os._exit(0)
        print("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def main(mode: str, folder: Path) -> None:
    torch.set_num_threads(1)
    if mode == "kills":
        kills(folder)
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored
    if mode == "resume":
        trainer = Trainer.resume(folder, dataset(), SETTINGS)
    else:
        trainer = Trainer(composition(), dataset(mode == "nan"), SETTINGS, folder)
    if mode in ("kill", "interrupt"):
        signal_inside(signal.SIGKILL if mode == "kill" else signal.SIGINT, 2 * 9 + 2)
    try:
        for progress in trainer.run():
            if mode in ("kill", "nan") and progress.done == (7 if mode == "kill" else 1):
                trainer.checkpoint()
    except KeyboardInterrupt:
        print("interrupted after", trainer.memory.step)
        return
    except Diverged as error:
        print("diverged:", error)
        return
    found = numbers(trainer)
    save_file(found.pop("weights"), folder / "weights.safetensors")
    (folder / "curves.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
