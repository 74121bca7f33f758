"""One training step of a raster CNN, a WaveNet and a raster LSTM beside plain PyTorch renderings of the same networks.

The renderings are what one writes by hand: channels-first Conv1d with padding on the left, nn.LSTM, one module a line; same
widths, depth, input features, output layer, batch and length, and a cross-entropy over 256 levels. Rounds of both alternate,
and the ratio is the median over rounds of plain / ours (above 1: ours is faster), in process time on one thread.
The last lines time what a parallel pass saves: one training step against T steps of the cell for the same rows.
Usage: python benchmarks/raster_training.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from turns import in_turn

from genalloy.heads.discrete import Categorical
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalLayer, CausalNet, Shift
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.recurrent import Recurrent
from genalloy.networks.causal.wavenet import CausalConvolution, WaveNet, doubling
from genalloy.networks.input_embedding import ScaledInput

LEVELS = 256


class PlainOutput(nn.Module):
    """Norm, a hidden layer and the logits, as any sequence model ends."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, LEVELS))

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(h)


class PlainBlock(nn.Module):
    """The raster CNN's residual block."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.norm, self.taps, self.leave = nn.LayerNorm(width), nn.Conv1d(width, width, kernel), nn.Conv1d(width, width, 1)

    def forward(self, h: Tensor) -> Tensor:
        n = self.norm(h.transpose(1, 2)).transpose(1, 2)
        return h + self.leave(F.silu(self.taps(F.pad(n, (self.kernel - 1, 0)))))


class PlainGated(nn.Module):
    """A block of WaveNet: two dilated convolutions, two 1x1 convolutions of the context, residual and skip."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.filter, self.gate = (nn.Conv1d(width, width, 2, dilation=dilation) for _ in range(2))
        self.filter_context, self.gate_context = (nn.Conv1d(width, width, 1, bias=False) for _ in range(2))
        self.residual, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)

    def forward(self, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        seen = F.pad(h, (self.dilation, 0))
        z = torch.tanh(self.filter(seen) + self.filter_context(c)) * torch.sigmoid(self.gate(seen) + self.gate_context(c))
        return h + self.residual(z), self.skip(z)


class PlainCNN(nn.Module):
    def __init__(self, width: int, layers: int, kernel: int) -> None:
        super().__init__()
        self.enter, self.output = nn.Conv1d(1, width, 1), PlainOutput(width)
        self.blocks = nn.Sequential(*(PlainBlock(width, kernel) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks(F.pad(self.enter(_scaled(x)[:, None, :-1]), (1, 0)))
        return self.output(h.transpose(1, 2))


class PlainWaveNet(nn.Module):
    def __init__(self, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.enter, self.output = nn.Conv1d(1, width, 1), PlainOutput(width)
        self.context = nn.Conv1d(2, width, 3, padding=1)
        self.blocks = nn.ModuleList(PlainGated(width, d) for d in dilations)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        c = self.context(context)
        h, total = F.pad(self.enter(_scaled(x)[:, None, :-1]), (1, 0)) + c, torch.zeros(())
        for block in self.blocks:
            h, skip = block(h, c)
            total = total + skip
        return self.output(total.transpose(1, 2))


class PlainRNN(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.output, self.norm = nn.Linear(1, width), PlainOutput(width), nn.LayerNorm(width)
        self.recurrence, self.leave = nn.LSTM(width, width, batch_first=True), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = F.pad(self.enter(_scaled(x)[:, :-1, None]), (0, 0, 1, 0))
        return self.output(h + self.leave(self.recurrence(self.norm(h))[0]))


def _scaled(x: Tensor) -> Tensor:
    return (x - 127.5) / 127.5


def ours(length: int, width: int, layers: list[CausalLayer], local: bool = False) -> Autoregressive:
    """The library's model of (length,) codes, on a map of two features along it where `local`."""
    context = ((2, length),) if local else ()
    places = PositionalEmbedding((length,), width, context, positions=False, spread=False)
    net = CausalNet((length,), LEVELS, Shift(width), layers, places, entry=ScaledInput(127.5, 127.5))
    return Autoregressive(net, Categorical(LEVELS), (length,), context)


def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """One forward and backward pass."""

    def run() -> None:
        model.zero_grad()
        loss().backward()

    return run


def compare(name: str, model: Autoregressive, plain: nn.Module, x: Tensor, context: Tensor | None, rounds: int) -> None:
    """Print medians and ratio."""
    given = () if context is None else (context,)

    def plainly() -> Tensor:
        return F.cross_entropy(plain(x, *given).flatten(0, 1), x.long().flatten(), reduction="sum") / len(x)

    pair = {"ours": step(model, lambda: -model(context).density(x).value.mean()), "plain": step(plain, plainly)}
    times = in_turn(pair, rounds)
    mine, other = (median(t) for t in times.values())
    ratio = median(b / a for a, b in zip(times["ours"], times["plain"], strict=True))
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, plain)]
    shape = f"{len(x)} x {x.shape[1]:,}"
    print(f"{name:<34} {shape:>12} {1e3 * mine:9.1f} {1e3 * other:9.1f} {ratio:7.2f}   {sizes[0]:,} and {sizes[1]:,} parameters")


def passes(name: str, model: Autoregressive, x: Tensor, rounds: int) -> None:
    """One parallel training step against T steps (without gradients) for the same rows."""
    steps = in_turn({"ours": step(model, lambda: -model().density(x).value.mean())}, rounds)
    parallel = median(steps["ours"])
    start = time.process_time()
    model().sample((len(x),))
    stepped = time.process_time() - start
    print(f"{name:<34} {len(x)} x {x.shape[1]:,}: one pass with gradients {parallel:.3f} s, {x.shape[1]:,} steps {stepped:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, sound = torch.randint(LEVELS, (16, 784)).float(), torch.randint(LEVELS, (4, 2048)).float()
    cnn = ours(784, 48, [CausalConvolution(48, 9) for _ in range(6)])
    rnn = ours(784, 64, [Recurrent(64)])
    wave = ours(2048, 32, [WaveNet(32, doubling(10))], local=True)
    print("forward and backward, ms, one thread" + " " * 25 + "ours     plain   plain/ours")
    compare("raster CNN, 6 layers of 48, kernel 9", cnn, PlainCNN(48, 6, 9), images, None, options.rounds)
    compare("raster LSTM of 64", rnn, PlainRNN(64), images, None, options.rounds)
    plain = PlainWaveNet(32, doubling(10))
    compare("WaveNet, 10 blocks of 32, local map", wave, plain, sound, torch.randn(4, 2, 2048), options.rounds)
    passes("raster CNN", cnn, images, options.rounds)
    passes("raster LSTM", rnn, images, options.rounds)


if __name__ == "__main__":
    main()
