"""A linear-Gaussian latent model with its closed forms: z ~ N(0, I), x | z ~ N(W z + b, s^2 I)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from genalloy.core.part import Part
from genalloy.heads.gaussian import GaussianDistribution, StandardNormal
from genalloy.models.latent import LatentVariable


class Affine(Part):
    """N(context W^T + b, s^2 I)."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: float) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = nn.Parameter(weight), nn.Parameter(bias), scale
        self.event_shape, self.context_shapes = tuple(bias.shape), ((weight.shape[1],),)

    def forward(self, context: Any = None) -> GaussianDistribution:
        mean = context @ self.weight.T + self.bias
        return GaussianDistribution(mean, torch.full_like(mean, self.scale), 1)


class Case:
    """model, its marginal `law` over x, and the precision of p(z|x)."""

    def __init__(self, codes: int, dims: int, scale: float = 0.5, posterior_scale: float | None = None, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(dims, codes, generator=generator) * 0.4
        bias = torch.randn(dims, generator=generator)
        self.law = MultivariateNormal(bias, self.weight @ self.weight.T + scale**2 * torch.eye(dims))
        self.precision = torch.eye(codes) + self.weight.T @ self.weight / scale**2
        self.gain = torch.linalg.solve(self.precision, self.weight.T) / scale**2
        spread = float(self.precision.diagonal().rsqrt().mean()) if posterior_scale is None else posterior_scale
        posterior = Affine(self.gain, -self.gain @ bias, spread)
        self.model = LatentVariable(StandardNormal((codes,)), Affine(self.weight, bias, scale), posterior)
