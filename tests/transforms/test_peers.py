"""The same weights give the peers' densities, in float64; and where the peers invert wrongly, ours do not.

Each peer constrains raw parameters in its own way, so the maps under test take the peer's own constraint functions; the
splines, the masks, the couplings and the sums are ours.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow
from genalloy.networks.causal.made import MADE
from genalloy.networks.mlp import Hidden
from genalloy.transforms.autoregressive import AutoregressiveTransform, masked
from genalloy.transforms.coupling import Coupling, FixedMask
from genalloy.transforms.sigmoidal import DeepSigmoid
from genalloy.transforms.spline import Knots, RationalQuadratic, spline_decode, spline_encode
from genalloy.transforms.univariate import Univariate

DIMS, BINS, UNITS = 4, 5, 12


@dataclass(frozen=True)
class ZukoAffine(Univariate):
    """raw = (shift, log-scale), log-scales softly clamped to log(1000)."""

    width = 2

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        a = raw[..., 1] / (1 + (raw[..., 1] / math.log(1e-3)).abs())
        return x * a.exp() + raw[..., 0], a

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


@dataclass(frozen=True)
class ZukoSpline(Univariate):
    """Knots as in zuko 1.6: logits clamped softly, outer slopes 1, bound 5."""

    width = 3 * BINS - 1

    def knots(self, raw: Tensor) -> Knots:
        w, h, d = raw.split([BINS, BINS, BINS - 1], -1)
        w, h = (r / (1 + (2 * r / math.log(1e-3)).abs()) for r in (w, h))
        d = d / (1 + (d / math.log(1e-3)).abs())
        x, y = (5 * (2 * F.pad(r.softmax(-1), (1, 0)).cumsum(-1) - 1) for r in (w, h))
        return Knots(x, y, F.pad(d, (1, 1)).exp())

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return spline_encode(x, Knots(*(k.movedim(-1, 0) for k in self.knots(raw))))

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return spline_decode(z, Knots(*(k.movedim(-1, 0) for k in self.knots(raw))))


@dataclass(frozen=True)
class NflowsSpline(Univariate):
    """Knots as in nflows 0.14: least share and slope 1e-3, bound 3."""

    width = 3 * BINS - 1

    def knots(self, raw: Tensor) -> Knots:
        w, h, d = raw.split([BINS, BINS, BINS - 1], -1)
        w, h = (1e-3 + (1 - 1e-3 * BINS) * r.softmax(-1) for r in (w, h))
        x, y = (3 * (2 * F.pad(r, (1, 0)).cumsum(-1) - 1) for r in (w, h))
        return Knots(x, y, F.pad(1e-3 + F.softplus(d), (1, 1), value=1.0))

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return spline_encode(x, Knots(*(k.movedim(-1, 0) for k in self.knots(raw))))

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return spline_decode(z, Knots(*(k.movedim(-1, 0) for k in self.knots(raw))))


@dataclass(frozen=True)
class NflowsAffine(Univariate):
    """raw = (scale, shift) with scale = softplus + 1e-3 (autoregressive), or (shift, scale) with sigmoid(. + 2) (coupling)."""

    coupled: bool = False

    width = 2

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        first, second = raw.unbind(-1)
        if self.coupled:
            scale, shift = torch.sigmoid(second + 2) + 1e-3, first
        else:
            scale, shift = F.softplus(first) + 1e-3, second
        return x * scale + shift, scale.log()

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def masked_like(linears: list, univariate: Univariate) -> AutoregressiveTransform:
    """Our masked network with a peer's weights: its hidden units sorted by the degree that their masks show."""
    made = MADE((DIMS,), univariate.width, Hidden((UNITS, UNITS), nn.ReLU), linear=False).double()
    first = linears[0].mask.sum(1).argsort(stable=True)
    orders = (first, first, torch.arange(univariate.width * DIMS)), (torch.arange(DIMS), first, first)
    for ours, other, rows, columns in zip((*made.layers, made.last), linears, *orders, strict=True):
        assert torch.equal(ours.mask.bool(), other.mask[rows][:, columns].bool())
        ours.weight.data, ours.bias.data = other.weight.data[rows][:, columns].clone(), other.bias.data[rows].clone()
    return AutoregressiveTransform(made, univariate)


def same(ours: Flow | AutoregressiveTransform | Coupling, expected: Tensor, x: Tensor, tolerance: float = 1e-10) -> None:
    flow = Flow(StandardNormal((DIMS,)).double(), [ours], (DIMS,))
    torch.testing.assert_close(flow().log_prob(x), expected, rtol=0, atol=tolerance)


def points() -> Tensor:
    torch.manual_seed(1)
    return 3 * torch.randn(200, DIMS, dtype=torch.float64)


def masked_linears(module: nn.Module) -> list:
    return [m for m in module.modules() if hasattr(m, "mask") and hasattr(m, "weight")]


@pytest.mark.parametrize("spline", [False, True], ids=["maf", "nsf"])
def test_zuko_autoregressive(spline: bool) -> None:
    zuko = pytest.importorskip("zuko", reason="zuko is an optional peer")
    torch.manual_seed(0)
    make, more = (zuko.flows.NSF, {"bins": BINS}) if spline else (zuko.flows.MAF, {})
    theirs = make(DIMS, transforms=1, hidden_features=(UNITS, UNITS), **more).double()
    x = points()
    same(masked_like(masked_linears(theirs), ZukoSpline() if spline else ZukoAffine()), theirs().log_prob(x).detach(), x)


def test_zuko_coupling() -> None:
    zuko = pytest.importorskip("zuko", reason="zuko is an optional peer")
    torch.manual_seed(0)
    theirs = zuko.flows.RealNVP(DIMS, transforms=1, hidden_features=(UNITS, UNITS), randmask=False).double()
    layer = next(m for m in theirs.modules() if hasattr(m, "hyper"))
    ours = Coupling(FixedMask(layer.mask), Turned(layer.hyper, 2), ZukoAffine())
    x = points()
    same(ours, theirs().log_prob(x).detach(), x)


class Turned(nn.Module):
    """A peer's network whose outputs lie entry by entry, as ours lie: parameter by parameter."""

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network, self.width = network, width

    def forward(self, still: Tensor) -> Tensor:
        return self.network(still).unflatten(-1, (-1, self.width)).transpose(-1, -2).flatten(-2)


@pytest.mark.parametrize("spline", [False, True], ids=["maf", "nsf"])
def test_nflows_autoregressive(spline: bool) -> None:
    pytest.importorskip("nflows", reason="nflows is an optional peer")
    from nflows.transforms import autoregressive

    torch.manual_seed(0)
    common = {"features": DIMS, "hidden_features": UNITS, "num_blocks": 1, "use_residual_blocks": False}
    if spline:
        make = autoregressive.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
        layer = make(**common, num_bins=BINS, tails="linear", tail_bound=3.0).double()
    else:
        layer = autoregressive.MaskedAffineAutoregressiveTransform(**common).double()
    x = points()
    z, ladj = layer(x)
    expected = StandardNormal((DIMS,)).double()().log_prob(z) + ladj
    linears = [m for m in layer.modules() if hasattr(m, "degrees") and hasattr(m, "weight")]
    same(masked_like(linears, NflowsSpline() if spline else NflowsAffine()), expected.detach(), x)


class Small(nn.Sequential):
    """A network in nflows' form: (x, context)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, UNITS), nn.Tanh(), nn.Linear(UNITS, outputs))

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        return super().forward(x)


@pytest.mark.parametrize("spline", [False, True], ids=["affine", "spline"])
def test_nflows_coupling(spline: bool) -> None:
    pytest.importorskip("nflows", reason="nflows is an optional peer")
    from nflows.transforms import coupling as theirs

    torch.manual_seed(0)

    moves = torch.tensor([0, 1, 0, 1])  # nflows: positive entries are transformed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if spline:
            make = theirs.PiecewiseRationalQuadraticCouplingTransform
            layer = make(moves, Small, num_bins=BINS, tails="linear", tail_bound=3.0).double()
        else:
            layer = theirs.AffineCouplingTransform(moves, Small).double()
        x = points()
        z, ladj = layer(x)
    width = 3 * BINS - 1 if spline else 2
    net: nn.Module = Turned(layer.transform_net, width) if spline else layer.transform_net
    univariate: Univariate = NflowsSpline() if spline else NflowsAffine(coupled=True)
    expected = StandardNormal((DIMS,)).double()().log_prob(z) + ladj
    same(Coupling(FixedMask(moves == 0), net, univariate), expected.detach(), x)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_splines_keep_to_single_precision_where_zuko_s_do_not(scale: float) -> None:
    torch.manual_seed(0)
    spline = RationalQuadratic(8)
    raw, y = scale * torch.randn(100_000, spline.width), 3 * torch.randn(100_000)
    x, inward = spline.decode(y, raw)
    again, outward = spline.encode(x, raw)
    assert torch.isfinite(x).all() and torch.isfinite(inward).all()
    assert float((again - y).abs().max()) < 5e-4
    assert float((inward + outward).abs().max()) < 0.1
    zuko = pytest.importorskip("zuko", reason="zuko is an optional peer")
    theirs = zuko.transforms.MonotonicRQSTransform(*raw.split([8, 8, 7], -1))
    gap = (theirs(theirs.inv(y)) - y).abs()
    if scale > 1:  # known of zuko 1.6: wrong by more than a thousandth, or not a number
        assert bool((~(gap < 1e-3)).any())


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0])
def test_deep_sigmoids_invert_far_out_where_zuko_s_do_not(scale: float) -> None:
    torch.manual_seed(0)
    x = scale * torch.randn(200, 2)
    layer = perturb_parameters(masked(2, Hidden((8,)), univariate=DeepSigmoid(8)))
    with torch.no_grad():
        back = layer.decode(layer.encode(x)[0])[0]
    assert float((back - x).abs().max()) < 1e-3 * scale
    zuko = pytest.importorskip("zuko", reason="zuko is an optional peer")
    with torch.no_grad():
        theirs = zuko.flows.NAF(2, transforms=1)().transform
        gap = float((theirs.inv(theirs(x)) - x).abs().max())
    if scale > 1:  # known of zuko 1.6: the bracket ends at 10, and values outside come back as its ends, without a word
        assert gap > 1.0
