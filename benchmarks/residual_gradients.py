"""Gradients of a residual block's log-determinant under weights on rows: memory and time of the Neumann series, of the unrolled
series and of the whole Jacobian, and how well the first two follow the last. Run: python benchmarks/residual_gradients.py
"""

from __future__ import annotations

import time

import torch

from genalloy.networks.lipschitz import LipschitzMLP
from genalloy.transforms.residual import ExactLogDet, Residual, Roulette, StochasticResidual

DIMS, ROWS, TERMS = 32, 128, 10
HOWS = {
    "neumann": Roulette(0.5, TERMS, shared=True),
    "unrolled": Roulette(0.5, TERMS, shared=True, unrolled=True),
    "whole jacobian": ExactLogDet(),
}


def measure(log_det, transform, x, weights):
    """(MiB kept for the backward pass, ms of one gradient, gradient as one vector)."""
    kept: dict[int, int] = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    began = time.process_time()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        value = StochasticResidual(transform, log_det).encode(x)[1].value
    gradient = torch.autograd.grad((weights * value).sum(), [m.weight for m in transform.network.maps])
    return sum(kept.values()) / 2**20, 1e3 * (time.process_time() - began), torch.cat([g.flatten() for g in gradient])


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    transform = Residual(LipschitzMLP((DIMS,), (128, 128)), (DIMS,))
    x, weights = torch.randn(ROWS, DIMS), torch.rand(ROWS)
    truth = measure(HOWS["whole jacobian"], transform, x, weights)[2]
    print(f"{DIMS} entries, {ROWS} rows, {TERMS} terms and more; gradient averaged over 30 draws against the whole Jacobian's")
    for name, log_det in HOWS.items():
        runs = [measure(log_det, transform, x, weights) for _ in range(30)]
        mean = torch.stack([run[2] for run in runs]).mean(0)
        cosine = float(torch.nn.functional.cosine_similarity(mean, truth, dim=0))
        milliseconds = sorted(run[1] for run in runs)[len(runs) // 2]
        length = float(mean.norm() / truth.norm())
        print(f"{name:15} {runs[-1][0]:8.2f} MiB  {milliseconds:7.1f} ms  cosine {cosine:.4f}  norm x{length:.3f}")


if __name__ == "__main__":
    main()
