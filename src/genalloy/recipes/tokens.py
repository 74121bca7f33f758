"""The transformer flow: affine autoregressive maps over patches, orders alternating."""

from __future__ import annotations

from genalloy.core.distribution import Shape
from genalloy.core.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.causal.transformer import CausalTransformer
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.flows import TASKS
from genalloy.recipes.pieces import on_data
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.autoregressive import AutoregressiveTransform
from genalloy.transforms.layer import Inverse, Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.observation import Flatten
from genalloy.transforms.tokens import Patches, ReverseTokens

OPTIONS = Training(Adam(2e-3), ema=0.995, clip=10.0)


def patch_size(shape: Shape) -> int:
    """The largest divisor of both sides that leaves at least 16 patches; the fewest tokens that still see structure."""
    sides = shape[1:]
    divisors = [p for p in range(1, min(sides) + 1) if not (sides[0] % p or sides[1] % p)]
    return max((p for p in divisors if sides[0] * sides[1] >= 16 * p * p), default=1)


def as_tokens(shape: Shape, patch: int | None) -> tuple[list[Transform], Shape]:
    """What turns observations into tokens (T, F): patches of images, otherwise one number a token."""
    if len(shape) == 3:
        patches = Patches(shape, patch or patch_size(shape))
        return [patches], patches.tokens
    flat: list[Transform] = [Flatten(shape)] if len(shape) > 1 else []
    tokens = (Flatten(shape).out_shape(shape)[0], 1)
    return [*flat, Inverse(Flatten(tokens))], tokens


@recipe("tarflow", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Zhai et al., 2024")
def tarflow(
    target: Target,
    patch: int | None = None,
    layers: int = 4,
    width: int = 64,
    blocks: int = 2,
    dropout: float = 0.1,
    steps: int = 1500,
) -> Composition:
    """Transformer autoregressive flow on patches, cached sampling.

    patch None: the largest that leaves 16 tokens. layers: flow layers; blocks: attention blocks in each. dropout: on integers.
    Zhai et al., 2024, arXiv:2412.06329.
    """
    drop = 0.0 if target.space.levels is None else dropout
    steps_, tokens = as_tokens(target.space.shape, patch)
    for _ in range(layers):
        network = CausalTransformer(tokens, 2, width, 4, blocks, dropout=drop).zero_output()
        steps_ += [ActNorm(tokens), AutoregressiveTransform(network), ReverseTokens()]
    flow = Flow(StandardNormal(tokens), [*steps_, ActNorm(tokens)], target.space.shape)
    return Composition(on_data(target, flow), [Phase(MaximumLikelihood(), OPTIONS, batch=128)], steps)
