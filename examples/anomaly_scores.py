"""Outlier scores from a log-density, beside the baseline that they must beat: how well the rows compress.

python examples/anomaly_scores.py [--smoke]
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

import genalloy as ga
from genalloy.evaluation.outliers import complexity


def main(smoke: bool) -> None:
    images = load_digits().images.astype(np.uint8)
    train, test = train_test_split(images, test_size=360, random_state=0)
    sets = {"upside down": test[:, ::-1], "mirrored": test[:, :, ::-1], "negatives": 16 - test}
    model = ga.Alloy("made", steps=20 if smoke else 1000).fit(train)

    inside = -model.score_samples(test)  # MADE's mass function of integers is EXACT
    print(f"test rows: {-inside.mean():.1f} nats; AUROC of test rows against each set:")
    for name, rows in sets.items():
        both = np.concatenate([np.zeros(len(test)), np.ones(len(rows))])
        ours = roc_auc_score(both, np.concatenate([inside, -model.score_samples(rows)]))
        zlib = roc_auc_score(both, np.concatenate([complexity(as_tensor(x), 17).numpy() for x in (test, rows)]))
        print(f"  {name:12} log-density {ours:.3f}   compressed length alone {zlib:.3f}")
    print("the three least likely test rows:", np.argsort(-inside)[:3].tolist())


def as_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images[:, None].astype(np.float32))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
