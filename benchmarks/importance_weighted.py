"""Importance-weighted evaluation at k = 1000 against the decoder's own forward passes, and against pythae's get_nll.

Target: at most 1.25 times the decoder's passes for the same data and k, in the chunk size that suits the decoder best;
memory flat in k.
"""

from __future__ import annotations

import importlib.util
import resource
import time

import torch

from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.part import From

Z, D, ROWS, K = 50, 784, 100, 1000
SIZES = ((200, 200), (500, 500))


def vae(hidden: tuple[int, int]) -> LatentVariable:
    decoder = From(Bernoulli(), MLP(((Z,),), D, hidden, torch.nn.Tanh), (D,), ((Z,),))
    encoder = From(Gaussian(), MLP(((D,),), 2 * Z, hidden, torch.nn.Tanh), (Z,), ((D,),))
    return LatentVariable(StandardNormal((Z,)), decoder, encoder)


@torch.no_grad()
def decoder_passes(model: LatentVariable, rows: int) -> float:
    """Seconds of the decoder network alone over K x ROWS latents, `rows` at a time."""
    z = torch.randn(rows, Z)
    began = time.perf_counter()
    for _ in range(K * ROWS // rows):
        model.likelihood.network(z)
    return time.perf_counter() - began


def evaluation(model: LatentVariable, x: torch.Tensor, k: int = K) -> float:
    began = time.perf_counter()
    ImportanceWeighted(k)(model(), x)
    return time.perf_counter() - began


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
    began = time.perf_counter()
    with torch.no_grad():
        model.get_nll(x, n_samples=K, batch_size=100)
    return time.perf_counter() - began


def compare(hidden: tuple[int, int]) -> None:
    """One decoder size: ours, the decoder alone, memory, the peer."""
    model, x = vae(hidden).eval(), (torch.rand(ROWS, D) < 0.2).float()
    decoder_passes(model, 1000), evaluation(model, x, 50)
    rounds = [(evaluation(model, x), min(decoder_passes(model, n) for n in (500, 1000, 2500, 10_000))) for _ in range(3)]
    ours, decoder = (min(column) for column in zip(*rounds))
    print(f"decoder {Z}-{hidden[0]}-{hidden[1]}-{D}, k={K}, {ROWS} rows")
    print(f"  importance weighted          {ours:6.2f} s")
    print(f"  decoder alone (best chunk)   {decoder:6.2f} s   ratio {min(a / b for a, b in rounds):.2f} (target 1.25)")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    evaluation(model, x, 3 * K)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"  peak memory added by k={3 * K}: {grown:.0f} MiB")
    theirs = peer(x, hidden)
    print(
        "  pythae is not installed"
        if theirs is None
        else f"  pythae get_nll               {theirs:6.2f} s   {theirs / ours:.1f} times ours"
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for hidden in SIZES:
        compare(hidden)


if __name__ == "__main__":
    main()
