"""Coupling, autoregressive and linear transforms: log-determinants, round trips, gradients, peers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.mlp import MLP, Hidden
from genalloy.transforms.autoregressive import AutoregressiveTransform, masked
from genalloy.transforms.coupling import Coupling, FixedMask, alternating, channelwise, checkerboard, coupling
from genalloy.transforms.layer import Inverse, Transform
from genalloy.transforms.linear import PLU, ActNorm, Permute, Reverse
from genalloy.transforms.univariate import soft_clamp

CONTEXT = ((3,),)
SMALL = Hidden((16, 16))
IMAGE = (2, 3, 2)
SHUFFLE = torch.tensor([2, 0, 1, 4, 3])

TRANSFORMS: dict[str, Callable[[], Transform]] = {
    "maf": lambda: masked(5, SMALL, (3, 1, 0, 4, 2)),
    "maf-residual-context": lambda: masked(5, Hidden((16, 16), residual=True), None, CONTEXT),
    "maf-one": lambda: masked(1, SMALL, None, CONTEXT),
    "iaf": lambda: Inverse(masked(5, SMALL, None, CONTEXT)),
    "coupling": lambda: coupling(alternating(5)),
    "coupling-residual-context": lambda: coupling(alternating(5), Hidden((8, 8), residual=True), CONTEXT),
    "coupling-context": lambda: Coupling(FixedMask(alternating(5, True)), MLP(((2,), (3,)), 6), context_shapes=CONTEXT),
    "coupling-checkerboard": lambda: coupling(checkerboard(IMAGE)),
    "coupling-channels": lambda: coupling(channelwise(IMAGE, second=True)),
    "permute": lambda: Permute(SHUFFLE),
    "reverse": Reverse,
    "actnorm": lambda: ActNorm((5,)),
    "actnorm-channels": lambda: ActNorm(IMAGE, per_channel=True),
    "plu": lambda: PLU(len(SHUFFLE)),
    "plu, rotated": lambda: PLU(len(SHUFFLE), "rotation"),
}


def build(name: str) -> tuple[Transform, tuple[int, ...]]:
    """A transform away from its identity start, and its event shape."""
    torch.manual_seed(0)
    transform = TRANSFORMS[name]()
    for p in transform.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    event = IMAGE if transform.event_dims == 3 else (1,) if name == "maf-one" else (5,)
    return transform.double(), event


def context(*batch: int) -> Tensor:
    return torch.randn(*batch, 3, dtype=torch.float64)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_log_determinant_is_that_of_the_jacobian(name: str) -> None:
    transform, event = build(name)
    x, c = torch.randn(event, dtype=torch.float64), context()
    for run in (transform.encode, transform.decode):
        jacobian = torch.autograd.functional.jacobian(lambda v, run=run: run(v, c)[0], x)
        expected = torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel()))[1]
        torch.testing.assert_close(run(x, c)[1], expected)


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_round_trips(name: str, scale: float) -> None:
    transform, event = build(name)
    x, c = scale * torch.randn(4, 3, *event, dtype=torch.float64), context(3)
    for there, back in ((transform.encode, transform.decode), (transform.decode, transform.encode)):
        y, forth = there(x, c)
        again, home = back(y, c)
        assert y.shape == x.shape and forth.shape == (4, 3)
        torch.testing.assert_close(again, x, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(home, -forth, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["maf", "maf-residual-context"])
def test_decoding_with_and_without_gradients_agrees_and_differentiates(name: str) -> None:
    transform, _ = build(name)
    z, c = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), context(4)
    x, ladj = transform.decode(z, c)
    with torch.no_grad():
        torch.testing.assert_close(transform.decode(z, c)[0], x, rtol=0, atol=1e-12)
    wanted = [z, *transform.parameters()]
    found = torch.autograd.grad(x.sin().sum() + ladj.sum(), wanted)
    expected = torch.autograd.grad(_plain_decode(transform, z, c).sin().sum() + ladj_of(transform, z, c), wanted)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def _plain_decode(transform: AutoregressiveTransform, z: Tensor, c: Tensor) -> Tensor:
    """D full passes, differentiated by autograd."""
    x = torch.zeros_like(z)
    for _ in range(z.shape[-1]):
        raw, shift = transform.network(x, c if transform.context_shapes else None).unbind(-1)
        x = (z - shift) * torch.exp(-soft_clamp(raw, 3.0))
    return x


def ladj_of(transform: AutoregressiveTransform, z: Tensor, c: Tensor) -> Tensor:
    return -transform.encode(_plain_decode(transform, z, c), c)[1].sum()


def test_samples_of_hundreds_of_variables_do_not_run_away() -> None:
    torch.manual_seed(0)
    layers = [masked(400, Hidden((64,))) for _ in range(5)]
    for layer in layers:
        layer.network.direct.weight.data.fill_(-0.1)  # each value adds a tenth of the sum of those before
    x = Flow(StandardNormal((400,)), layers, (400,))().sample((20,))
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("name", ["maf", "coupling", "coupling-checkerboard"])
def test_stacks_start_at_the_identity(name: str) -> None:
    transform = TRANSFORMS[name]()
    x = torch.randn(3, *(IMAGE if transform.event_dims == 3 else (5,)))
    z, ladj = transform.encode(x)
    torch.testing.assert_close(z, x)
    assert (ladj == 0).all()


def test_coupling_moves_only_the_free_half_by_the_fixed_one() -> None:
    transform, _ = build("coupling-checkerboard")
    x = torch.randn(IMAGE, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: transform.encode(v)[0], x).reshape(12, 12)
    fixed = transform.parting.mask.flatten()
    assert torch.equal(jacobian[fixed], torch.eye(12, dtype=torch.float64)[fixed])
    assert (jacobian[~fixed][:, fixed] != 0).all()
    off = jacobian[~fixed][:, ~fixed]
    assert torch.equal(off, torch.diag(off.diag())) and (off.diag() > 0).all()


def test_masks() -> None:
    assert alternating(4).tolist() == [True, False, True, False]
    assert checkerboard((1, 2, 2), odd=True).tolist() == [[[False, True], [True, False]]]
    assert channelwise((2, 1, 1)).flatten().tolist() == [True, False]
    with pytest.raises(ValueError, match="both kinds"):
        FixedMask(torch.ones(3))


@pytest.mark.parametrize("per_channel", [False, True])
def test_actnorm_standardises_its_first_batch(per_channel: bool) -> None:
    norm = ActNorm(IMAGE, per_channel)
    x = 3 + 2 * torch.randn(500, *IMAGE) * torch.arange(1.0, 3.0)[:, None, None]
    norm.initialise(x)
    z = norm.encode(x)[0]
    axes = (0, 2, 3) if per_channel else 0
    torch.testing.assert_close(z.mean(axes), torch.zeros_like(norm.shift).squeeze(), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(axes), torch.ones_like(norm.shift).squeeze(), atol=1e-2, rtol=0)


def test_iaf_draws_in_one_parallel_pass_and_scores_its_own_sample() -> None:
    layer = build("iaf")[0]
    flow = Flow(StandardNormal((5,)).double(), [layer], (5,), CONTEXT)
    passes: list[int] = []
    layer.transform.network.register_forward_hook(lambda *_: passes.append(1))
    z, _ = flow(context(2)).draw((4,))
    assert len(passes) == 1 and z.shape == (4, 2, 5) and z.requires_grad


def test_iaf_draw_agrees_with_its_density() -> None:
    distribution = Flow(StandardNormal((5,)).double(), [build("iaf")[0]], (5,), CONTEXT)(context(2))
    z, evidence = distribution.draw((4,))
    torch.testing.assert_close(evidence.value, distribution.density(z).value)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_saved_and_rebuilt(name: str) -> None:
    transform, event = build(name)
    transform = transform.float()
    x, c = torch.randn(2, *event), torch.randn(2, 3)
    again = from_spec(*to_spec(transform))
    for a, b in zip(again.encode(x, c), transform.encode(x, c), strict=True):
        torch.testing.assert_close(a, b)
