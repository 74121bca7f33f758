"""Importance-weighted evaluation at k = 500 against the decoder's own forward passes, and against pythae's get_nll.

Target: at most 1.25 times the decoder's passes for the same data and k, in the chunk size that suits the decoder best;
memory flat in k. The cost is linear in rows, so 200 rows stand for the 10,000 of a test set and the seconds for 10,000 are
fifty times those measured. Seconds are of the processor (user and system, all threads), which other programs disturb less than
a clock's; rounds of both sides alternate, and the ratio is the median over rounds.

    python benchmarks/importance_weighted.py [threads]
"""

from __future__ import annotations

import importlib.util
import resource
import statistics
import sys
import time

import torch

from genalloy.core.part import Conditional
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP

Z, D, ROWS, K, ROUNDS = 50, 784, 200, 500, 5
SIZES = ((200, 200), (500, 500))


def vae(hidden: tuple[int, int]) -> LatentVariable:
    decoder = Conditional(Bernoulli(), MLP(((Z,),), D, hidden, torch.nn.Tanh), (D,), ((Z,),))
    encoder = Conditional(Gaussian(), MLP(((D,),), 2 * Z, hidden, torch.nn.Tanh), (Z,), ((D,),))
    return LatentVariable(StandardNormal((Z,)), decoder, encoder)


@torch.no_grad()
def decoder_passes(model: LatentVariable, rows: int) -> float:
    """Seconds of the decoder network alone over K x ROWS latents, `rows` at a time."""
    z = torch.randn(rows, Z)
    began = time.process_time()
    for _ in range(K * ROWS // rows):
        model.likelihood.network(z)
    return time.process_time() - began


def evaluation(model: LatentVariable, x: torch.Tensor, k: int = K) -> float:
    began = time.process_time()
    ImportanceWeighted(k)(model(), x)
    return time.process_time() - began


def peer(x: torch.Tensor, hidden: tuple[int, int]) -> float | None:
    """Seconds of pythae's get_nll for the same rows and k, its networks of the same sizes."""
    if importlib.util.find_spec("pythae") is None:
        return None
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    def mlp(a: int, b: int) -> torch.nn.Sequential:
        act = torch.nn.Tanh
        return torch.nn.Sequential(
            torch.nn.Linear(a, hidden[0]), act(), torch.nn.Linear(*hidden), act(), torch.nn.Linear(hidden[1], b)
        )

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(D, 2 * Z)

        def forward(self, x):
            mean, log_var = self.net(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(Z, D)

        def forward(self, z):
            return ModelOutput(reconstruction=torch.sigmoid(self.net(z)))

    config = VAEConfig(input_dim=(D,), latent_dim=Z, reconstruction_loss="bce")
    model = VAE(config, Encoder(), Decoder()).eval()
    began = time.process_time()
    with torch.no_grad():
        model.get_nll(x, n_samples=K, batch_size=100)
    return time.process_time() - began


def grown(model: LatentVariable, x: torch.Tensor) -> float:
    """MiB that ten times as many samples add to the peak."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    evaluation(model, x[:20], 10 * K)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def compare(hidden: tuple[int, int]) -> None:
    """One decoder size: ours, the decoder alone, memory, the peer."""
    model, x = vae(hidden).eval(), (torch.rand(ROWS, D) < 0.2).float()
    with torch.no_grad():
        model.likelihood.network.net[-1].weight.mul_(20.0)  # logits as spread out as a trained decoder's
    decoder_passes(model, 1000), evaluation(model, x, 50)
    rounds = [(evaluation(model, x), min(decoder_passes(model, n) for n in (500, 1000, 2500))) for _ in range(ROUNDS)]
    ours, decoder = (min(column) for column in zip(*rounds, strict=True))
    print(f"decoder {Z}-{hidden[0]}-{hidden[1]}-{D}, k={K}, {ROWS} rows, {torch.get_num_threads()} threads")
    print(f"  importance weighted          {ours:6.2f} s  ({ours * 10_000 / ROWS:.0f} s for 10,000 rows)")
    ratio = statistics.median(a / b for a, b in rounds)
    print(f"  decoder alone (best chunk)   {decoder:6.2f} s   ratio {ratio:.2f} (target 1.25; best round {ours / decoder:.2f})")
    print(f"  peak memory added by k={10 * K}: {grown(model, x):.0f} MiB")
    theirs = peer(x, hidden)
    if theirs is None:
        print("  pythae is not installed")
    else:
        print(f"  pythae get_nll               {theirs:6.2f} s   {theirs / ours:.1f} times ours")


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    torch.manual_seed(0)
    for hidden in SIZES:
        compare(hidden)


if __name__ == "__main__":
    main()
