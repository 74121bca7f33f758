"""Texts from their beginnings: an autoregressive model and counted 5-grams, on a text that is part of this file.

A prompt is completed by exact draws from p(the rest | the beginning). Temperature, top-k and top-p change the law, and what is
printed says so. Bits a character of the unseen end of the text stand beside each other.
python examples/complete_text.py [--smoke]
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import genalloy as ga

WINDOW = 24
WORDS = ("cat", "mat", "dog", "hat", "rat", "bat", "cow", "log")


def story(lines: int) -> str:
    chosen = torch.randint(len(WORDS), (lines, 3), generator=torch.Generator().manual_seed(0)).tolist()
    return "".join(f"the {WORDS[a]} sat on the {WORDS[b]} and the {WORDS[c]} saw the {WORDS[a]} run. " for a, b, c in chosen)


def main(smoke: bool) -> None:
    with TemporaryDirectory() as folder:
        Path(folder, "story.txt").write_text(story(60 if smoke else 600))
        data = ga.load_data(f"{folder}/story.txt@window={WINDOW}")
    levels = data.space.levels or 0
    torch.manual_seed(0)
    model = ga.Autoregressive(
        ga.networks.MADE((WINDOW,), levels, ga.networks.Hidden((256, 256)), entry=ga.networks.OneHot(levels)),
        ga.heads.Categorical(levels),
        (WINDOW,),
    )
    rows = (ga.Batch(data.train[torch.randint(len(data.train), (64,))]) for _ in range(10 if smoke else 600))
    for _ in ga.fit(model, ga.objectives.MaximumLikelihood(), rows, training=ga.Training(ga.Adam(2e-3))):
        pass
    colder = ga.Autoregressive(model.network, ga.heads.Filtered(model.head, (ga.heads.Temperature(0.5),)), (WINDOW,))
    grams = ga.models.NGram.of(data.train.flatten()[None], levels, order=5, window=WINDOW)
    given = data.admit("the cat s" + " " * (WINDOW - 9))[0]
    for name, part in {"MADE": model, "MADE, colder": colder, "5-grams": grams}.items():
        evidence = ga.density(part(), data.test)
        bits = -float(evidence.value.detach().mean()) / WINDOW / math.log(2)
        made = part().complete(given, torch.arange(WINDOW) < 9, (3,))
        print(f"{name}: {bits:.3f} bits a character ({evidence.kind.value}; {evidence.how})", *data.restore(made), sep="\n  ")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
