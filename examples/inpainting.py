"""Any part of a digit completed by one model: the lower half, the right half, a random third, or everything.

An any-order autoregressive model (Hoogeboom et al., 2022) has the conditional of every entry given any others, so that
completing needs no chain and no rejection; a budget of parallel steps trades nats for passes, and says how many.
python examples/inpainting.py [--smoke]
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

import genalloy as ga
from genalloy.models.any_order import bound, schedule
from genalloy.recipes.any_order import ardm

SHADES = " .:-=+*#%@"


def picture(*images: Tensor) -> str:
    """Images (8, 8) of 0..16 beside one another; unknown entries are -1."""
    rows = ([SHADES[int(v) * 9 // 16] if v >= 0 else "?" for image in images for v in (*image[i], 0)] for i in range(8))
    return "\n".join("".join(row) for row in rows)


def main(smoke: bool) -> None:
    torch.manual_seed(0)
    data, steps = ga.load_data("digits"), 10 if smoke else 1000
    composition = ardm(ga.recipes.Target.of(data))
    model: Any = composition.model
    phase = composition.each()[0]
    rows = (ga.Batch(data.train[torch.randint(len(data.train), (phase.batch,))]) for _ in range(steps))
    for _ in ga.fit(model, phase.objective, rows, training=phase.planned(steps, 0)):
        pass
    model.eval()
    x = data.test[3]
    with torch.no_grad():
        print(f"test rows: {ga.density(model(), data.test)}")
    left = (torch.arange(8) < 4).expand(1, 8, 8)
    masks = {"left half": left, "upper half": left.transpose(1, 2), "a third at random": torch.rand(1, 8, 8) < 1 / 3}
    for name, known in masks.items():
        made = model().complete(x, known, (4,))
        print(f"\n{name} known, the rest drawn four times; clamped exactly: {bool((made == x)[:, known].all())}")
        print(picture(*x.where(known, -1.0), *x, *made[:, 0]))
    losses = model.step_losses(data.validation)
    sizes = schedule(losses, 10)
    print(f"\n64 steps: log p(x) >= {bound(losses):.1f} nats; the best 10 steps {sizes}: >= {bound(losses, sizes):.1f} nats")
    print(picture(*model.under(ga.models.Parallel(sizes))().sample((6,))[:, 0]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
