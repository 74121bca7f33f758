"""One training step of a language model: ours, torch.nn.TransformerEncoderLayer, and GPT-2 of the package `transformers`.

Equal layers, width, heads, length, batch and vocabulary; forward, backward and one step of AdamW. Rows are timed in turn, round
after round; the table gives medians and their ratio to ours. GPT-2 is left out where `transformers` is not installed.
Usage: python benchmarks/transformer_training.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from turns import in_turn

from genalloy.heads.discrete import Categorical
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalNet, Shift
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.transformer import Attention, blocks
from genalloy.networks.input_embedding import OneHot

VOCABULARY = 65


@dataclass(frozen=True)
class Size:
    layers: int = 4
    width: int = 128
    heads: int = 4
    length: int = 128
    batch: int = 16


class Ours(nn.Module):
    """The library's transformer and head, as the recipe transformer-lm builds them, with learned positions."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        stack = blocks(size.width, size.length, size.layers, Attention(size.heads))
        places = PositionalEmbedding((size.length,), size.width)
        network = CausalNet((size.length,), VOCABULARY, Shift(size.width), stack, places, entry=OneHot(VOCABULARY))
        self.part = Autoregressive(network, Categorical(VOCABULARY), (size.length,))

    def forward(self, x: Tensor) -> Tensor:
        return -self.part().density(x.float()).value.mean() / x.shape[1]


class Plain(nn.Module):
    """The same network in plain PyTorch: encoder layers under a causal mask."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.enter, self.place = nn.Embedding(VOCABULARY + 1, size.width), nn.Embedding(size.length, size.width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(size.width, size.heads, 4 * size.width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(size.layers)
        )
        self.norm, self.leave = nn.LayerNorm(size.width), nn.Linear(size.width, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(size.length))

    def forward(self, x: Tensor) -> Tensor:
        before = F.pad(x[:, :-1], (1, 0), value=VOCABULARY)
        h = self.enter(before) + self.place.weight
        for layer in self.layers:
            h = layer(h, self.mask, is_causal=True)
        return F.cross_entropy(self.leave(self.norm(h)).flatten(0, 1), x.flatten())


def gpt2(size: Size) -> nn.Module | None:
    """GPT-2 without dropout; None where the package is missing."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        return None
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=size.length, n_embd=size.width, n_layer=size.layers, n_head=size.heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def stepper(model: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """One training step as a function."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--length", type=int, default=Size.length)
    parser.add_argument("--batch", type=int, default=Size.batch)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = Size(length=options.length, batch=options.batch)
    x = torch.randint(VOCABULARY, (size.batch, size.length))
    models: dict[str, nn.Module] = {"genalloy": Ours(size), "nn.TransformerEncoderLayer": Plain(size)}
    steps = {name: stepper(model, model, x) for name, model in models.items()}
    peer = gpt2(size)
    if peer is not None:
        models["transformers GPT-2"] = peer
        steps["transformers GPT-2"] = stepper(peer, lambda x: peer(input_ids=x, labels=x).loss, x)
    times = in_turn(steps, options.rounds)
    print(f"{size}, one thread, float32: CPU milliseconds of a training step, median of {options.rounds}")
    ours = statistics.median(times["genalloy"])
    for name, found in times.items():
        middle = statistics.median(found)
        parameters = sum(p.numel() for p in models[name].parameters())
        print(f"{name:28}{1e3 * middle:8.1f} ms   {middle / ours:5.2f} x ours   {parameters:,} parameters")
    if peer is None:
        print("transformers is not installed: GPT-2 was left out (pip install transformers)")


if __name__ == "__main__":
    main()
