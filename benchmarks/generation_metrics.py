"""Seconds of every generation metric for 10,000 against 10,000 rows of 64 features; prdc and torch-fidelity where installed.

Target: each distance in under a minute on one thread, without a matrix of all pairs in memory.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.data.space import Space
from genalloy.evaluation.features import PixelFeatures
from genalloy.evaluation.frechet import frechet
from genalloy.evaluation.kernel import Cubic, Gaussians, kernel_distance
from genalloy.evaluation.memorisation import memorisation, memorisation_controls, reference
from genalloy.evaluation.neighbours import nearest, prdc
from genalloy.evaluation.sliced import sliced_wasserstein
from genalloy.evaluation.two_sample import c2st

ROWS, FEATURES, TRAIN, TARGET = 10_000, 64, 60_000, 60.0


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ours(fake: Tensor, real: Tensor) -> dict[str, Callable[[], object]]:
    return {
        "frechet": lambda: frechet(fake, real),
        "kernel distance, cubic": lambda: kernel_distance(fake, real, Cubic()),
        "kernel distance, Gaussians": lambda: kernel_distance(fake, real, Gaussians()),
        "sliced Wasserstein, 200 lines": lambda: sliced_wasserstein(fake, real),
        "precision, recall, density, coverage": lambda: prdc(real, fake),
        "nearest of 10,000": lambda: nearest(fake, real),
    }


def theirs(fake: Tensor, real: Tensor) -> dict[str, Callable[[], object]]:
    """Peers' calls on the same features, whatever is installed."""
    found: dict[str, Callable[[], object]] = {}
    try:
        from prdc import compute_prdc

        found["prdc: P, R, D, C"] = lambda: compute_prdc(real.numpy(), fake.numpy(), 5)
    except ImportError:
        print("  prdc is not installed")
    try:
        from torch_fidelity import metric_fid, metric_kid, metric_prc
    except (ImportError, RuntimeError):
        print("  torch-fidelity is not installed, or its torchvision does not fit torch")
        return found
    whole = {"kid_subsets": 1, "kid_subset_size": ROWS, "verbose": False}
    statistics = metric_fid.fid_features_to_statistics
    found["torch-fidelity: Frechet"] = lambda: metric_fid.fid_statistics_to_metric(statistics(fake), statistics(real), False)
    found["torch-fidelity: kernel, whole sets"] = lambda: metric_kid.kid_features_to_metric(fake, real, **whole)
    found["torch-fidelity: P, R"] = lambda: metric_prc.calculate_precision_recall_full(fake, real, 5)
    return found


def memorisation_seconds() -> None:
    """The panel against 60,000 training rows, none left out."""
    train, test, fake = (torch.randn(n, FEATURES) for n in (TRAIN, ROWS, ROWS))
    data = Dataset("normal", Space((FEATURES,), "points"), train, train[:0], test)
    features = PixelFeatures().fit(train)
    began = time.perf_counter()
    known = reference(data, features)
    between = time.perf_counter()
    print(f"  memorisation: reference            {between - began:7.2f} s   (5,000 held-out, {TRAIN:,} training rows)")
    print(f"  memorisation: one generator        {seconds(lambda: memorisation(data, fake, features, known=known)):7.2f} s")
    print(f"  memorisation: both controls        {seconds(lambda: memorisation_controls(data, features, known=known)):7.2f} s")


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fake, real = torch.randn(ROWS, FEATURES).double() + 0.1, torch.randn(ROWS, FEATURES).double()
    print(f"{ROWS:,} x {ROWS:,} rows, {FEATURES} features, one thread (target: {TARGET:.0f} s each)")
    before = megabytes()
    for name, work in ours(fake, real).items():
        spent = seconds(work)
        print(f"  {name:<36}{spent:6.2f} s{'' if spent < TARGET else '   over the target'}")
    print(f"  peak memory added: {megabytes() - before:.0f} MiB (a matrix of all pairs has {8 * ROWS**2 / 2**20:.0f} MiB)")
    print(f"  {'classifier two-sample test':<36}{seconds(lambda: c2st(fake, real)):6.2f} s")
    memorisation_seconds()
    for name, work in theirs(fake, real).items():
        print(f"  {name:<36}{seconds(work):6.2f} s")


if __name__ == "__main__":
    main()
