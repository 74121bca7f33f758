"""The functions that every training and every evaluation passes through, beside a peer and beside the limit, in one table.

limit: the same matrix products alone, or a bare eager loop without the library. Calls take turns, so that all of them meet the
same machine; processor time, medians over rounds, one thread, float32. Ratios above 1: slower than that column.
Usage: python benchmarks/core_speed.py [--rounds 9] [--only NSF]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
import zuko
from fit_overhead import STEPS, by_fit, by_hand
from fit_overhead import vae as two_layer_vae
from importance_weighted import ROWS, D, K, Z
from importance_weighted import vae as wide_vae
from raster_training import LEVELS, PlainRNN, Recurrent
from raster_training import ours as raster
from torch import Tensor, nn
from torch.nn import functional as F
from turns import in_turn

from genalloy.core.batch import Batch
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.models.implicit import Implicit
from genalloy.networks.causal.made import MADE
from genalloy.networks.mlp import MLP, Hidden
from genalloy.objectives.adversarial import Adversarial, Critic
from genalloy.objectives.payoffs import NonSaturating
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.transforms.autoregressive import AutoregressiveTransform
from genalloy.transforms.spline import RationalQuadratic
from genalloy.transforms.univariate import Affine, Univariate

Calls = dict[str, Callable[[], object]]
DIMS, LAYERS, BINS, BATCH = 43, 5, 8, 200


def backward(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward and backward pass."""

    def run() -> None:
        model.zero_grad()
        loss().backward()

    return run


def autoregressive(univariate: Univariate, widths: tuple[int, ...]) -> Flow:
    orders = (None, tuple(reversed(range(DIMS))))
    networks = [MADE((DIMS,), univariate.width, Hidden(widths, nn.ReLU), orders[i % 2], linear=False) for i in range(LAYERS)]
    layers = [AutoregressiveTransform(network.zero_output(), univariate) for network in networks]
    return Flow(StandardNormal((DIMS,)), layers, (DIMS,))


def products(widths: tuple[int, ...], outputs: int) -> nn.Sequential:
    """The dense products of one layer's network, without masks."""
    sizes = [DIMS, *widths, outputs]
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


def flows(name: str) -> Calls:
    x = torch.randn(BATCH, DIMS)
    univariate, widths = (Affine(), (512, 512)) if name == "MAF" else (RationalQuadratic(BINS), (256, 256))
    mine = autoregressive(univariate, widths)
    more = {} if name == "MAF" else {"bins": BINS}
    theirs = getattr(zuko.flows, name)(DIMS, transforms=LAYERS, hidden_features=widths, **more)
    dense = nn.ModuleList(products(widths, univariate.width * DIMS) for _ in range(LAYERS))
    return {
        "ours": backward(mine, lambda: -mine().log_prob(x).mean()),
        "peer: zuko": backward(theirs, lambda: -theirs().log_prob(x).mean()),
        "limit: products": backward(dense, lambda: sum(net(x).mean() for net in dense)),  # type: ignore[arg-type, return-value]
    }


def flow_samples(name: str, draws: int = 300) -> Calls:
    univariate, widths = (Affine(), (512, 512)) if name == "MAF" else (RationalQuadratic(BINS), (256, 256))
    mine = autoregressive(univariate, widths)
    theirs = getattr(zuko.flows, name)(
        DIMS, transforms=LAYERS, hidden_features=widths, **({} if name == "MAF" else {"bins": BINS})
    )
    return {"ours": lambda: mine().sample((draws,)), "peer: zuko": lambda: theirs().sample((draws,))}


def importance(hidden: tuple[int, int]) -> Calls:
    model, x = wide_vae(hidden).eval(), (torch.rand(ROWS, D) < 0.2).float()
    with torch.no_grad():
        model.likelihood.network.net[-1].weight.mul_(20.0)  # logits as spread out as a trained decoder's

    @torch.no_grad()
    def bare(chunk: int = 10) -> None:
        """What one writes: the same draws, the decoder, the likelihood; ten samples of all rows at a time."""
        mean, raw = model.posterior.network(x).unflatten(-1, (Z, 2)).unbind(-1)
        scale, total = F.softplus(raw + 0.5413248546) + 1e-4, []
        for _ in range(K // chunk):
            z = mean + scale * torch.randn(chunk, ROWS, Z)
            logits = model.likelihood.network(z)
            total.append(-F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1))
        torch.cat(total).logsumexp(0)

    @torch.no_grad()
    def decoder() -> None:
        z = torch.randn(1000, Z)
        for _ in range(K * ROWS // 1000):
            model.likelihood.network(z)

    return {"ours": lambda: ImportanceWeighted(K)(model(), x), "peer: bare loop": bare, "limit: decoder": decoder}


def training() -> Calls:
    x, mine, hand = (torch.rand(128, 784) < 0.2).float(), two_layer_vae(), two_layer_vae()
    optimizer = torch.optim.Adam(hand.parameters(), 1e-3, fused=True)
    return {"ours": lambda: by_fit(mine, x), "peer: hand-written": lambda: by_hand(hand, x, optimizer)}


def lstm() -> Calls:
    x, mine, plain = torch.randint(LEVELS, (16, 784)).float(), raster(784, 64, [Recurrent(64)]), PlainRNN(64)
    loss = lambda: F.cross_entropy(plain(x).flatten(0, 1), x.long().flatten(), reduction="sum") / len(x)  # noqa: E731
    return {"ours": backward(mine, lambda: -mine().density(x).value.mean()), "peer: plain torch": backward(plain, loss)}


def gan(steps: int = 50) -> Calls:
    """Non-saturating, without penalties, one critic step a step; both make fresh fakes for either player."""
    latent, width, rows = 16, 256, torch.randn(256, 64)
    mine = Implicit(StandardNormal((latent,)), MLP(((latent,),), 64, (width, width)), (64,))
    critic = Critic(MLP(((64,),), 1, (width, width)), terms=())
    generator, judge = MLP(((latent,),), 64, (width, width)), MLP(((64,),), 1, (width, width))
    made, judged = (torch.optim.Adam(m.parameters(), 1e-4, betas=(0.0, 0.99), fused=True) for m in (generator, judge))

    def by_fit() -> None:
        batches = (Batch(rows) for _ in range(steps))
        for _ in fit(mine, Adversarial(critic, NonSaturating()), batches, training=Training(Adam(1e-4, (0.0, 0.99)))):
            pass

    def by_hand() -> None:
        for _ in range(steps):
            with torch.no_grad():
                fake = generator(torch.randn(len(rows), latent))
            judged.zero_grad()
            (F.softplus(-judge(rows)).mean() + F.softplus(judge(fake)).mean()).backward()
            judged.step()
            made.zero_grad()
            F.softplus(-judge(generator(torch.randn(len(rows), latent)))).mean().backward()
            made.step()

    return {"ours": by_fit, "peer: plain loop": by_hand}


ROWS_OF_THE_TABLE: dict[str, Callable[[], Calls]] = {
    "MAF forward and backward, D = 43": lambda: flows("MAF"),
    "NSF forward and backward, D = 43": lambda: flows("NSF"),
    "MAF sampling, 300": lambda: flow_samples("MAF"),
    "NSF sampling, 300": lambda: flow_samples("NSF"),
    "importance weighting, 200-200": lambda: importance((200, 200)),
    "importance weighting, 500-500": lambda: importance((500, 500)),
    f"fit, two-layer VAE, {STEPS} steps": training,
    "raster LSTM forward and backward": lstm,
    "GAN, 50 steps": gan,
}


def lines(name: str, calls: Calls, rounds: int) -> Iterator[str]:
    times = in_turn(calls, rounds)
    mine = times.pop("ours")
    yield f"{name:36} {1e3 * statistics.median(mine):9.1f} ms"
    for other, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(mine, seconds, strict=True))
        yield f"{'  ' + other:36} {1e3 * statistics.median(seconds):9.1f} ms   ours / it {ratio:5.2f}"


def help_seconds() -> float:
    """Processor time of `genalloy --help`, a fresh process."""
    code = "import sys; sys.argv = ['genalloy', '--help']\nfrom genalloy.cli import main\nmain()"
    before = os.times()
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread, {options.rounds} rounds")
    if not options.only:
        print(f"{'genalloy --help':36} {1e3 * statistics.median(help_seconds() for _ in range(5)):9.1f} ms")
    for name, make in ROWS_OF_THE_TABLE.items():
        if options.only in name:
            torch.manual_seed(0)
            for line in lines(name, make(), options.rounds if "sampling" not in name else 3):
                print(line, flush=True)


if __name__ == "__main__":
    main()
