"""Planar, radial and Sylvester transforms: far off their start, both ways, at every scale, and where others overflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.invertible import SCALES, invertible
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow
from genalloy.networks.mlp import Hidden
from genalloy.solvers.roots import NotConverged
from genalloy.transforms.layer import Transform
from genalloy.transforms.planar import Planar, Radial
from genalloy.transforms.sylvester import Basis, Householder, Orthogonal, Sylvester, Triangular

CONTEXT = ((3,),)
SMALL = Hidden((8,))
Shapes = tuple[tuple[int, ...], ...]

BASES: dict[str, Basis] = {
    "orthogonal": Orthogonal(3),
    "householder": Householder(2),
    "triangular": Triangular(),
    "reversed": Triangular(reverse=True),
}
TRANSFORMS: dict[str, Callable[[Shapes], Transform]] = {
    "planar": lambda c: Planar(4, SMALL, c),
    "radial": lambda c: Radial(4, SMALL, c),
    **{n: (lambda c, b=b: Sylvester(4, b, SMALL, c)) for n, b in BASES.items()},
}


class Decoded(nn.Module):
    """`decode` as a module's forward."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.transform.decode(z)


def moved(name: str, shapes: Shapes = (), size: float = 1.0) -> Transform:
    torch.manual_seed(0)
    return perturb_parameters(TRANSFORMS[name](shapes), size)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shapes", [(), CONTEXT], ids=["free", "amortised"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_both_directions_far_from_the_start(name: str, shapes: Shapes, scale: float) -> None:
    transform = moved(name, shapes, 2.0)
    invertible(transform, scale * torch.randn(6, 4), torch.randn(6, 3) if shapes else None)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_starts_near_the_identity(name: str) -> None:
    x = torch.randn(5, 4)
    z, ladj = TRANSFORMS[name](()).encode(x)
    assert (z - x).abs().max() < 0.5 and 0 < ladj.abs().max() < 0.5


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_batch_meets_its_own_context(name: str) -> None:
    transform = moved(name, CONTEXT).double()
    c = torch.randn(3, 3, dtype=torch.float64)
    for x in (torch.randn(4, dtype=torch.float64), torch.randn(5, 3, 4, dtype=torch.float64)):
        for run in (transform.encode, transform.decode):
            y, ladj = run(x, c)
            rows = [run(x if x.dim() == 1 else x[:, i], c[i]) for i in range(3)]
            torch.testing.assert_close(y, torch.stack([r[0] for r in rows], -2))
            torch.testing.assert_close(ladj, torch.stack([r[1] for r in rows], -1))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_decoding_differentiates_in_its_parameters(name: str) -> None:
    transform = moved(name).double()
    z, w = torch.randn(2, 4, dtype=torch.float64), torch.tensor([1.0, 0.3], dtype=torch.float64)
    start = transform.coefficients.start.detach().clone().requires_grad_()

    def weighted(start: Tensor) -> Tensor:
        x, ladj = functional_call(Decoded(transform), {"transform.coefficients.start": start}, (z,))
        return (w * (ladj + x.sin().sum(-1))).sum()

    assert torch.autograd.gradcheck(weighted, (start,), fast_mode=True)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_saved_and_rebuilt(name: str) -> None:
    transform = moved(name, CONTEXT)
    again, x, c = from_spec(*to_spec(transform)), torch.randn(2, 4), torch.randn(2, 3)
    for a, b in zip(again.encode(x, c), transform.encode(x, c), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("size", [1e-20, 0.0, 1.0, 40.0, 1e4])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_planar_at_any_size_of_its_vectors(size: float, sign: float) -> None:
    """w.u far above 88, far below -1, and w = 0: finite in float32, constrained, and inverted."""
    layer = Planar(2)
    layer.coefficients.start.data = torch.tensor([sign * size, 0.5, size, size / 3, 0.2])
    x = torch.randn(50, 2)
    z, ladj = layer.encode(x)
    u, w, _, kappa = layer._plane(None)
    assert torch.isfinite(z).all() and torch.isfinite(ladj).all() and kappa >= layer.floor
    rounding = float((w.norm() * u.norm()).detach()) * 2**-22
    assert float(1 + (w @ u).detach()) == pytest.approx(float(kappa.detach()), rel=1e-5, abs=rounding + 1e-5)
    (z.sum() + ladj.sum()).backward()
    assert torch.isfinite(layer.coefficients.start.grad).all()
    wide = layer.double()
    torch.testing.assert_close(wide.decode(wide.encode(x.double())[0])[0], x.double(), rtol=1e-6, atol=1e-6)


def test_the_size_of_planes_at_the_start() -> None:
    torch.manual_seed(0)
    whole = Planar(4).coefficients.start.detach()
    torch.manual_seed(0)
    torch.testing.assert_close(Planar(4, size=0.01).coefficients.start.detach(), 0.01 * whole)


def test_planar_moves_along_one_direction_and_radial_about_one_point() -> None:
    x = torch.randn(20, 4)
    planar, radial = moved("planar"), moved("radial")
    moves = planar.encode(x)[0] - x
    assert torch.linalg.matrix_rank(moves, rtol=1e-4) == 1
    centre = radial._ball(None)[0]
    a, b = x - centre, radial.encode(x)[0] - centre
    torch.testing.assert_close(torch.cosine_similarity(a, b, dim=-1), torch.ones(20))
    torch.testing.assert_close(radial.encode(centre)[0], centre.detach())
    torch.testing.assert_close(radial.decode(centre)[0], centre.detach())


@pytest.mark.parametrize("name", BASES)
def test_columns_are_orthonormal(name: str) -> None:
    basis = BASES[name]
    q = basis.matrix(basis.start(4) + 0.5 * torch.randn(7, 1, len(basis.start(4))), 4)
    eye = torch.eye(basis.columns(4)).expand(7, 1, -1, -1)
    torch.testing.assert_close((q.mT @ q).expand_as(eye), eye, atol=1e-5, rtol=0)


def test_nearly_dependent_columns_are_refused() -> None:
    raw = torch.ones(2, 4 * 3)
    raw[0] = Orthogonal(3).start(4)
    with pytest.raises(NotConverged, match="1 of 2 matrices are not orthogonal"):
        Orthogonal(3).matrix(raw, 4)


def test_triangular_and_householder_see_every_direction() -> None:
    """D x D with M = D: no direction is left alone."""
    for name in ("householder", "triangular"):
        transform = moved(name, size=0.3)
        jacobian = torch.autograd.functional.jacobian(lambda x, t=transform: t.encode(x)[0], torch.zeros(4))
        assert torch.linalg.matrix_rank(jacobian - torch.eye(4), rtol=1e-4) == 4


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_flow_integrates_to_one(name: str) -> None:
    torch.manual_seed(1)
    basis = BASES.get(name)
    layer = {"planar": Planar, "radial": Radial}.get(name, lambda d: Sylvester(d, basis))(2)
    flow = Flow(StandardNormal((2,)), [perturb_parameters(layer, 1.0)], (2,))
    axis = torch.linspace(-12, 12, 241)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        assert float(flow().log_prob(grid).exp().sum()) * 0.01 == pytest.approx(1.0, abs=2e-3)
