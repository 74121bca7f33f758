"""Residual transforms: estimators against the exact log-determinant, gradients under weights, the certified inverse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genalloy.core.evidence import Evidence, Kind
from genalloy.core.spec import Module, from_spec, to_spec
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow
from genalloy.networks.lipschitz import Contraction, LipschitzConv, LipschitzMLP
from genalloy.solvers import fixed_point
from genalloy.solvers.divergence import GaussianProbes
from genalloy.solvers.fixed_point import FixedPoint
from genalloy.solvers.roots import NotConverged
from genalloy.transforms.coupling import Coupling, alternating
from genalloy.transforms.coupling import coupling as coupled
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.residual import ExactLogDet, LogDet, Residual, Roulette, StochasticResidual, Truncated

IMAGE = (1, 3, 3)
CONTEXT = ((3,),)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def curved(network: Contraction) -> Contraction:
    """A contraction with a large Jacobian: maps aligned with each other, moved off their symmetric start."""
    with torch.no_grad():
        for layer in network.maps:
            layer.weight.add_(0.7 * torch.ones_like(layer.weight) / layer.weight[0].numel() ** 0.5)
        for learned in network.learned:
            learned.fill_(3.0)
        for bias in network.biases:
            bias.add_(0.3 * torch.randn_like(bias))
    return network.double().eval()


def dense(lipschitz: float = 0.9) -> Residual:
    return Residual(curved(LipschitzMLP((4,), (8, 8), lipschitz=lipschitz)), (4,))


def image() -> Residual:
    return Residual(curved(LipschitzConv(IMAGE, (4,), (3, 3), CONTEXT)), IMAGE, CONTEXT)


def points(rows: int, transform: Residual) -> Tensor:
    return torch.randn(rows, *transform.event_shape, dtype=torch.float64)


def by_autograd(transform: Residual, x: Tensor, c: Tensor | None = None) -> Tensor:
    size = x[0].numel()
    values = []
    for i, row in enumerate(x):
        own = None if c is None else c[i]
        matrix = torch.autograd.functional.jacobian(lambda v, own=own: transform.encode(v, own)[0], row).reshape(size, size)
        values.append(torch.linalg.slogdet(matrix)[1])
    return torch.stack(values)


@pytest.mark.parametrize("make", [dense, image])
def test_the_exact_log_determinant_is_that_of_autograd(make: Callable[[], Residual]) -> None:
    transform = make()
    x, c = points(5, transform), torch.randn(5, 3, dtype=torch.float64) if transform.context_shapes else None
    expected = by_autograd(transform, x, c)
    assert float(expected.abs().max()) > 0.1, "a log-determinant of zero would test nothing"
    torch.testing.assert_close(transform.encode(x, c)[1], expected)


def test_two_entries_by_the_written_out_determinant() -> None:
    transform = Residual(curved(LipschitzMLP((2,), (8,))), (2,))
    x = points(6, transform)
    torch.testing.assert_close(transform.encode(x)[1], by_autograd(transform, x))


def repeated(transform: Residual, log_det: LogDet, x: Tensor, times: int) -> Tensor:
    """Independent estimates (times, N): one large batch of copies."""
    many = x.expand(times, *x.shape)
    with torch.no_grad():
        return StochasticResidual(transform, log_det).encode(many)[1].value


@pytest.mark.parametrize(
    "log_det",
    [
        Roulette(0.3, 1),
        Roulette(0.5, 2, probes=3),
        Roulette(0.3, 3, noise=GaussianProbes()),
        Roulette(0.2, 2, probes=2, unrolled=True),
    ],
    ids=repr,
)
def test_roulette_is_unbiased(log_det: Roulette) -> None:
    transform = dense()
    x = points(3, transform)
    found, truth = repeated(transform, log_det, x, 8000), transform.encode(x)[1].detach()
    gap = (found.mean(0) - truth).abs() / (found.std(0) / len(found) ** 0.5)
    assert float(gap.max()) < 4
    assert float(found.std(0).min()) > 1e-3


def test_a_probability_of_stopping_is_one() -> None:
    with pytest.raises(ValueError, match="expected 0 < p < 1"):
        Roulette(0.0)


def test_a_shared_depth_is_unbiased_and_shared() -> None:
    transform = dense()
    x, log_det = points(1, transform), Roulette(0.4, 1, shared=True)
    c = log_det.coefficients(x.expand(5, -1))
    assert c.shape[1:] == (1, 1)
    with torch.no_grad():
        layer = StochasticResidual(transform, log_det)
        found = torch.stack([layer.encode(x.expand(20, -1))[1].value.mean() for _ in range(250)])
    gap = (found.mean() - transform.encode(x)[1].detach()) / (found.std() / len(found) ** 0.5)
    assert abs(float(gap)) < 4


def test_roulette_s_weights_average_to_one() -> None:
    c = Roulette(0.5, 2).coefficients(torch.zeros(200000, 1))[:, 0]
    assert torch.equal(c[:2], torch.ones(2, 200000))
    torch.testing.assert_close(c[2:6].mean(1), torch.ones(4), atol=0.03, rtol=0)
    assert set(c[3].unique().tolist()) == {0.0, 4.0}


class Matrix(Module):
    """g(x) = A x with singular values 0.9: the series converges as slowly as its bound says."""

    lipschitz = 0.9

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims
        turn = torch.linalg.qr(torch.randn(dims, dims, dtype=torch.float64))[0]
        self.a = torch.nn.Parameter(0.9 * (0.8 * torch.eye(dims) + 0.2 * turn))

    def bind(self, context: None, batch: tuple[int, ...]) -> tuple[Tensor, ...]:
        return (self.a,)

    def linearise(self, x: Tensor, bound: tuple[Tensor, ...]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return x @ bound[0].T, lambda t: t @ bound[0].T


def test_the_cut_of_a_truncated_series_shows_and_shrinks() -> None:
    transform = Residual(Matrix(4), (4,))
    x = points(1, transform)
    truth = torch.linalg.slogdet(torch.eye(4) + transform.network.a)[1].detach()
    torch.testing.assert_close(transform.encode(x)[1][0], truth)
    cut = [float((repeated(transform, Truncated(n, probes=0), x, 1)[0, 0] - truth).abs()) for n in (2, 4, 8, 200)]
    assert cut[0] > cut[1] > cut[2] > 0.005 and cut[3] < 1e-8
    assert all(error < 4 * 0.9 ** (n + 1) / ((n + 1) * 0.1) for n, error in zip((2, 4, 8), cut, strict=False))
    probed = repeated(transform, Truncated(4), x, 4000)[:, 0]
    stderr = probed.std() / len(probed) ** 0.5
    exact = repeated(transform, Truncated(4, probes=0), x, 1)[0, 0]
    assert float((probed.mean() - exact).abs() / stderr) < 4 < float((probed.mean() - truth).abs() / stderr)


def test_roulette_reaches_what_truncation_misses() -> None:
    transform = Residual(Matrix(4), (4,))
    found = repeated(transform, Roulette(0.15, 2), points(1, transform), 20000)[:, 0]
    truth = torch.linalg.slogdet(torch.eye(4) + transform.network.a)[1].detach()
    assert float((found.mean() - truth).abs() / (found.std() / len(found) ** 0.5)) < 4


def test_the_standard_error_is_that_of_repetitions() -> None:
    transform = dense()
    x = points(2, transform)
    with torch.no_grad():
        evidence = StochasticResidual(transform, Roulette(0.3, 1, probes=4)).encode(x.expand(4000, *x.shape))[1]
    stated = evidence.stderr.square().mean(0).sqrt()
    torch.testing.assert_close(stated, evidence.value.std(0), rtol=0.1, atol=0)


def gradient(transform: Residual, log_det: LogDet, x: Tensor, weights: Tensor) -> Tensor:
    """Of sum_b w_b log det_b with respect to all parameters and x, as one vector; x may hold copies (times, N, *E)."""
    x = x.clone().requires_grad_()
    value = StochasticResidual(transform, log_det).encode(x)[1].value
    wanted = [x, *transform.parameters()]
    found = torch.autograd.grad((value * weights).sum(), wanted, allow_unused=True)
    grads = [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]
    grads[0] = grads[0].reshape(-1, *x.shape[-1 - transform.event_dims :]).sum(0)
    return torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize("weights", [(1.0, 2.0, 3.0, 4.0), (0.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0), (-1.0, 0.5, 0.0, 0.0)])
@pytest.mark.parametrize("log_det", [Roulette(0.3, 2), Roulette(0.5, 4, probes=2), Roulette(0.3, 2, unrolled=True)], ids=repr)
def test_gradients_respect_the_weights_of_rows(log_det: LogDet, weights: tuple[float, ...]) -> None:
    transform, w, times = dense(0.8), torch.tensor(weights, dtype=torch.float64), 4000
    x = points(4, transform)
    truth = gradient(transform, ExactLogDet(), x, w)
    found = gradient(transform, log_det, x.expand(times, *x.shape), w / times)
    assert float(torch.nn.functional.cosine_similarity(found, truth, dim=0)) > 0.99
    assert float(found.norm() / truth.norm()) == pytest.approx(1.0, abs=0.05)


def test_late_terms_of_the_gradient_carry_their_weight() -> None:
    transform = Residual(Matrix(3), (3,))
    layer, a, times = StochasticResidual(transform, Roulette(0.15, 2)), transform.network.a, 20000
    value = layer.encode(points(1, transform).expand(times, -1))[1].value.mean()
    (found,) = torch.autograd.grad(value, a)
    truth = torch.linalg.inv(torch.eye(3) + a).T.detach()
    torch.testing.assert_close(found, truth, atol=0.03, rtol=0)


def test_every_row_receives_its_own_weight() -> None:
    transform, x = dense(), points(4, dense())
    layer = StochasticResidual(transform, Roulette(0.3, 2))
    x.requires_grad_()
    value = layer.encode(x)[1].value
    one = torch.autograd.grad(value.sum(), x, retain_graph=True)[0]
    weights = torch.tensor([0.0, 1.0, -2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(torch.autograd.grad((weights * value).sum(), x)[0], weights[:, None] * one)


def test_the_map_s_own_gradient_passes_too() -> None:
    transform, x = image(), points(3, image())
    c = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    grads = []
    for log_det in (ExactLogDet(), Truncated(3)):
        z, _ = StochasticResidual(transform, log_det).encode(x, c)
        grads.append(torch.autograd.grad(z.sin().sum(), [c, *(p for p in transform.parameters())], allow_unused=True))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(torch.zeros(()).double() if a is None else a, torch.zeros(()).double() if b is None else b)


def test_the_gradient_of_a_truncated_series_without_noise_is_that_of_the_series() -> None:
    transform, x = dense(0.5), points(4, dense())
    w = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    truth, found = gradient(transform, ExactLogDet(), x, w), gradient(transform, Truncated(30, probes=0), x, w)
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-7)


def test_second_derivatives_are_right_or_refused() -> None:
    transform, x = dense(), points(3, dense()).requires_grad_()

    def curvature(log_det: LogDet) -> Tensor:
        torch.manual_seed(1)
        value = StochasticResidual(transform, log_det).encode(x)[1].value
        score = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
        return torch.autograd.grad(score.square().sum(), x)[0]

    torch.testing.assert_close(curvature(Truncated(60, probes=0)), curvature(ExactLogDet()), rtol=1e-5, atol=1e-7)
    assert curvature(Roulette(unrolled=True)).isfinite().all()
    with pytest.raises(ValueError, match=r"first derivatives only; use unrolled=True"):
        curvature(Roulette())


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_inverse_is_certified(scale: float, dtype: torch.dtype) -> None:
    transform = dense(0.97).to(dtype)
    z = scale * torch.randn(50, 4, dtype=dtype)
    x = transform.preimage(z)
    with torch.no_grad():
        gap = float((x + transform.network(x) - z).abs().max()) / (1 + scale)
    assert gap < (1e-5 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("memory", [0, 2, 5])
def test_accelerated_and_plain_iterations_agree(memory: int) -> None:
    transform = dense(0.8)
    z = points(20, transform)
    count: list[int] = []

    def g(x: Tensor) -> Tensor:
        count.append(1)
        return transform.network(x)

    x = FixedPoint(memory=memory)(g, z)
    torch.testing.assert_close(x + transform.network(x), z)
    assert len(count) < (200 if memory == 0 else 25)


def test_the_hardest_contraction_still_converges() -> None:
    """x -> -0.999 x has no slack; plain steps alone would take tens of thousands of evaluations."""
    y = torch.randn(10, 3, dtype=torch.float64)
    torch.testing.assert_close(FixedPoint(steps=20)(lambda x: -0.999 * x, y), 1000 * y, rtol=1e-6, atol=0)


def test_kinks_that_mislead_the_acceleration_do_not_stop_it() -> None:
    y = 3 * torch.randn(200, 6, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    x = FixedPoint()(lambda v: 0.95 * (v @ turn).abs(), y)
    torch.testing.assert_close(x + 0.95 * (x @ turn).abs(), y)


def test_useless_acceleration_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_point, "_least_squares", lambda a, b: 100 * torch.randn(*a.shape[:-2], a.shape[-1], 1).to(a))
    y = torch.randn(20, 3, dtype=torch.float64)
    torch.testing.assert_close(FixedPoint()(lambda x: 0.8 * x.sin(), y), FixedPoint(memory=0)(lambda x: 0.8 * x.sin(), y))


def test_what_does_not_converge_is_an_error() -> None:
    y = torch.randn(6, 2)
    with pytest.raises(NotConverged, match=r"6 of 6 fixed points are not found after 30 steps, worst residual"):
        FixedPoint(steps=30)(lambda x: 3 * x.abs() + 1 + x.square(), y)
    with pytest.raises(NotConverged):
        FixedPoint(steps=5)(lambda x: 0.5 * x, torch.full((1, 2), torch.nan))


@pytest.mark.parametrize("make", [dense, image])
def test_samples_carry_the_gradient_of_the_inverse(make: Callable[[], Residual]) -> None:
    transform = make()
    z, c = points(3, transform).requires_grad_(), torch.randn(3, 3, dtype=torch.float64) if transform.context_shapes else None
    wanted = [p for p in transform.parameters() if p is not transform.network.biases[-1]]
    x = transform.decode(z, c)[0]
    found = torch.autograd.grad(x.sin().sum(), [z, *wanted], allow_unused=True)
    plain = z
    rows, bound, _ = transform._placed(z, c)
    for _ in range(400):
        plain = rows - transform.network.linearise(plain, bound)[0]
    expected = torch.autograd.grad(plain.sin().sum(), [z, *wanted], allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="inverse of a residual transform has first derivatives only"):
        torch.autograd.grad(transform.decode(z, c)[0].sum(), z, create_graph=True)


def flow(log_det: LogDet) -> Flow:
    blocks = [
        StochasticResidual(perturb_parameters(Residual(LipschitzMLP((2,), (8,), CONTEXT), (2,), CONTEXT)), log_det)
        for _ in range(2)
    ]
    return Flow(StandardNormal((2,)), [ActNorm((2,)), *blocks], (2,), CONTEXT)


@pytest.mark.parametrize(
    ("log_det", "kind", "words"),
    [
        (ExactLogDet(), Kind.EXACT, ""),
        (Roulette(probes=2), Kind.UNBIASED, "Russian roulette"),
        (Truncated(6, probes=2), Kind.ESTIMATE, "power series of 6 terms"),
    ],
)
def test_labels_both_ways(log_det: LogDet, kind: Kind, words: str) -> None:
    distribution = flow(log_det)(torch.randn(3, 3))
    x, own = distribution.draw((4,))
    for evidence in (own, distribution.density(x)):
        assert evidence.kind is kind and words in evidence.how and evidence.value.shape == (4, 3)
        assert evidence.proper == (kind is Kind.EXACT)
        assert (evidence.stderr is None) == (kind is Kind.EXACT)
        assert evidence.stderr is None or (evidence.stderr.shape == (4, 3) and bool((evidence.stderr > 0).any()))


def test_learning_uses_its_own_estimator() -> None:
    layer = StochasticResidual(dense(), ExactLogDet(), Truncated(2))
    x = points(3, layer.transform)
    kinds: dict[bool, Evidence] = {mode: layer.train(mode).encode(x)[1] for mode in (True, False)}
    assert kinds[True].kind is Kind.ESTIMATE and kinds[False].kind is Kind.EXACT


def test_saved_and_rebuilt() -> None:
    part = flow(Roulette(0.25, 3, noise=GaussianProbes())).eval()
    again = from_spec(*to_spec(part)).eval()
    assert repr(again) == repr(part)
    x, c = torch.randn(4, 2), torch.randn(4, 3)
    values = []
    for model in (part, again):
        torch.manual_seed(3)
        values.append(model(c).density(x).value)
    assert torch.equal(*values)


def filled(layers: list, event: tuple[int, ...]) -> float:
    """Share of nonzero entries of dz/dx through a stack."""
    x = torch.randn(event, dtype=torch.float64)

    def through(v: Tensor) -> Tensor:
        for layer in layers:
            v = layer.encode(v)[0]
        return v

    size = x.numel()
    return float((torch.autograd.functional.jacobian(through, x).reshape(size, size) != 0).double().mean())


def test_residual_blocks_fill_the_jacobian_in_fewer_layers_than_couplings() -> None:
    def coupling(i: int) -> Coupling:
        return perturb_parameters(coupled(alternating(6, bool(i % 2)))).double()

    def residual(_: int) -> Residual:
        return perturb_parameters(Residual(LipschitzMLP((6,), (16,)), (6,))).double()

    shares = {make: [filled([make(i) for i in range(k)], (6,)) for k in (1, 2, 3)] for make in (coupling, residual)}
    assert shares[residual] == [1.0, 1.0, 1.0]
    assert shares[coupling] == pytest.approx([15 / 36, 30 / 36, 1.0])
