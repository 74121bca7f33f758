"""Any-order autoregressive parts: bounds against all orders enumerated, schedules against brute force, completions."""

from __future__ import annotations

import math
from itertools import combinations, pairwise, permutations, product
from typing import Any

import pytest
import torch
from torch import Tensor

from genalloy.core.evidence import Evidence, Kind, Measure
from genalloy.heads.discrete import Bernoulli, Categorical
from genalloy.heads.head import Head
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.any_order import AnyOrder, EveryOrder, FixedOrder, Parallel, RandomOrder, RandomStep, bound, even, schedule
from genalloy.networks.attention import AttentionConfig
from genalloy.networks.input_embedding import OneHot, ScaledInput
from genalloy.networks.order_agnostic import OrderAgnosticAttention, OrderAgnosticMLP, OrderAgnosticUNet, TrunkConfig, UNetConfig

D, K = 4, 3
LAWS: dict[str, Any] = {"ancestral": None, "parallel": Parallel((1, 2, 1)), "late": Parallel((1, 3))}


def part(dims: int = D, head: Head | None = None, entry: Any = None, contexts: Any = (), **laws: Any) -> AnyOrder:
    torch.manual_seed(0)
    head = head or Categorical(K)
    network = OrderAgnosticMLP((dims,), head.width, TrunkConfig(16, 1), contexts, entry or OneHot(K))
    made = AnyOrder(network, head, (dims,), contexts, **laws).double()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.6 * torch.randn_like(p))
    return made


def everything(dims: int = D, levels: int = K) -> Tensor:
    return torch.tensor(list(product(range(levels), repeat=dims))).double()


def by_order(made: AnyOrder, x: Tensor) -> Tensor:
    """log p(x | sigma) of every permutation, (D!, rows), from single conditionals: no code of the estimators."""
    d, sizes = made(), made.generation.steps(x.shape[1])
    rows = []
    for order in permutations(range(x.shape[1])):
        total, start = torch.zeros(len(x)).double(), 0
        for size in sizes:
            known = torch.zeros_like(x, dtype=torch.bool)
            known[:, list(order[:start])] = True
            logits = made.network(x * known, known).log_softmax(-1)
            for k in order[start : start + size]:
                total = total + logits[range(len(x)), k, x[:, k].long()]
            start += size
        rows.append(total)
    assert d.sizes == sizes
    return torch.stack(rows)


def under(name: str, **more: Any) -> AnyOrder:
    made = part(**more)
    return made if LAWS[name] is None else made.under(LAWS[name])


@pytest.mark.parametrize("name", LAWS)
@torch.no_grad()
def test_the_mean_over_all_orders_is_the_expectation_of_a_random_step(name: str) -> None:
    made, x = under(name), everything()[::5]
    orders = by_order(made, x)
    d, expected = made(), torch.zeros(len(x)).double()
    starts = [s for s, n in zip((0, 1, 3) if name == "parallel" else (0, 1, 2, 3), (1, 2, 1, 1), strict=False) for _ in range(n)]
    for start in {"ancestral": range(D), "parallel": starts, "late": (0, 1, 1, 1)}[name]:
        parts = list(combinations(range(D), start))
        for s in parts:
            known = torch.zeros_like(x, dtype=torch.bool)
            known[:, list(s)] = True
            expected += D * d.remaining(x, known) / (D * len(parts))
    torch.testing.assert_close(expected, orders.mean(0), rtol=0, atol=1e-10)
    assert float((orders.max(0).values - orders.min(0).values).min()) > 0.05, "the orders agree: nothing was tested"
    for draws in (1, 3):
        evidence = made.under(estimate=RandomStep(draws))().density(x.expand(4000, *x.shape))
        error = evidence.value.std(0) / 4000**0.5
        assert float(((evidence.value.mean(0) - orders.mean(0)).abs() / error).max()) < 4.5
        assert (evidence.kind, evidence.proper) == (Kind.LOWER, False) and "random step" in evidence.how
        assert ("parallel steps" in evidence.how) == (name != "ancestral")


@torch.no_grad()
def test_more_strata_say_how_sure_they_are() -> None:
    made, x = part(estimate=RandomStep(8)), everything()[7]
    evidence = made().density(x.expand(2000, D))
    assert evidence.stderr is not None
    ratio = float(evidence.stderr.square().mean().sqrt() / evidence.value.std())
    assert 0.9 < ratio < 1.6
    assert part()().density(x).stderr is None
    spread = [float(part(estimate=RandomStep(n))().density(x.expand(2000, D)).value.std()) for n in (1, 8)]
    assert spread[1] < 0.4 * spread[0]


@pytest.mark.parametrize("name", LAWS)
@torch.no_grad()
def test_every_order_is_the_mixture_and_sums_to_one(name: str) -> None:
    made, x = under(name), everything()
    evidence = made.under(estimate=EveryOrder())().density(x)
    expected = by_order(made, x).logsumexp(0) - math.log(math.factorial(D))
    torch.testing.assert_close(evidence.value, expected, rtol=0, atol=1e-9)
    assert (evidence.kind, evidence.proper, evidence.measure) == (Kind.EXACT, True, Measure(0, D))
    assert abs(float(evidence.value.exp().sum()) - 1) < 1e-9
    x, own = made.under(estimate=EveryOrder())().draw((3,))
    assert own.kind is Kind.EXACT
    torch.testing.assert_close(own.value, made.under(estimate=EveryOrder())().log_prob(x))


@pytest.mark.parametrize("name", LAWS)
@torch.no_grad()
def test_a_whole_random_order_is_proper(name: str) -> None:
    made, x = under(name), everything()[::10]
    exact = made.under(estimate=EveryOrder())().density(x).value
    for draws in (1, 4):
        evidence = made.under(estimate=RandomOrder(draws))().density(x.expand(3000, *x.shape))
        assert (evidence.kind, evidence.proper) == (Kind.LOWER, True)
        mass = evidence.value.exp()
        assert float(((mass.mean(0) - exact.exp()).abs() / (mass.std(0) / 3000**0.5)).max()) < 4.5
        assert bool((evidence.value.mean(0) < exact).all())


@torch.no_grad()
def test_a_fixed_order_is_exact() -> None:
    order = (2, 0, 3, 1)
    for sizes in ((), (1, 3)):
        made, x = part(generation=FixedOrder(order, sizes)), everything()
        evidence = made().density(x)
        assert evidence.kind is Kind.EXACT and evidence.proper and "fixed order" in evidence.how
        torch.testing.assert_close(evidence.value, by_order(made, x)[list(permutations(range(D))).index(order)])
        assert abs(float(evidence.value.exp().sum()) - 1) < 1e-9
        drawn, own = made().draw((5,))
        assert own.kind is Kind.EXACT
        torch.testing.assert_close(own.value, made().log_prob(drawn))


def counted(x: Tensor) -> Tensor:
    """Frequency of each event, in the order of :func:`everything`."""
    place = (x * torch.tensor([K**k for k in reversed(range(x.shape[-1]))]).double()).sum(-1).long()
    return torch.bincount(place, minlength=K ** x.shape[-1]) / len(x)


@pytest.mark.parametrize("name", LAWS)
def test_samples_follow_the_mixture_and_report_their_own_order(name: str) -> None:
    made, count = under(name), 20_000
    with torch.no_grad():
        x, own = made().draw((count,))
        exact = made.under(estimate=EveryOrder())().density(everything()).value.exp()
    assert (own.kind, own.proper) == (Kind.UPPER, True)
    found = counted(x)
    assert float(((found - exact).abs() / (exact * (1 - exact) / count).sqrt()).max()) < 4.5
    # E[exp(-v) | x] = 1 / p(x), event by event: the sum of exp(-v) over the samples of one event, over all samples, is 1
    for event in exact.topk(3).indices.tolist():
        hits = (x == everything()[event]).all(-1)
        ratio = hits * (-own.value).exp()
        assert abs(float(ratio.mean()) - 1) < 4.5 * float(ratio.std()) / count**0.5
    with torch.no_grad():
        possible = by_order(made, x[:20])
    assert float((possible - own.value[:20]).abs().amin(0).max()) < 1e-9


def test_the_density_of_an_own_sample_carries_the_models_gradient() -> None:
    made = part()
    torch.manual_seed(3)
    with torch.no_grad():
        x, quiet = made().draw((6,))
    torch.manual_seed(3)
    again, own = made().draw((6,))
    assert torch.equal(x, again) and not again.requires_grad
    torch.testing.assert_close(own.value.detach(), quiet.value)
    own.value.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in made.parameters())


def cuts(dims: int, budget: int) -> list[tuple[int, ...]]:
    """All ways to cut D entries into `budget` blocks."""
    edges = [(0, *inner, dims) for inner in combinations(range(1, dims), budget - 1)]
    return [tuple(b - a for a, b in pairwise(e)) for e in edges]


@pytest.mark.parametrize("dims", [1, 2, 5, 7])
def test_the_schedule_is_the_best_of_all(dims: int) -> None:
    generator = torch.Generator().manual_seed(dims)
    for budget in range(1, dims + 1):
        for losses in (torch.rand(dims, generator=generator), torch.linspace(2, 0.1, dims) ** 3):
            sizes = schedule(losses, budget)
            assert len(sizes) == budget and sum(sizes) == dims and min(sizes) >= 1
            best = max(bound(losses, cut) for cut in cuts(dims, budget))
            assert abs(bound(losses, sizes) - best) < 1e-9
    assert schedule(torch.rand(dims), 99) == (1,) * dims


def test_schedules_by_hand() -> None:
    losses = torch.tensor([3.0, 1.0, 1.0, 1.0])
    assert schedule(losses, 2) == (1, 3) and bound(losses, (1, 3)) == -6.0
    assert bound(losses, (3, 1)) == -10.0 and bound(losses) == -6.0
    assert even(10, 4) == (2, 3, 2, 3) and even(3, 8) == (1, 1, 1)
    assert len(schedule(torch.linspace(1, 0, 784), 20)) == 20
    with pytest.raises(ValueError, match="budget of 0"):
        schedule(losses, 0)


@torch.no_grad()
def test_step_losses_give_the_bound_of_any_blocks() -> None:
    made = part()
    x = made().sample((3000,))
    losses = made.step_losses(x)
    assert losses.shape == (D,)
    for sizes in ((1, 1, 1, 1), (2, 2), (1, 3), (4,)):
        expected = by_order(made.under(Parallel(sizes)), x[:500]).mean()
        assert abs(bound(losses, sizes) - float(expected)) < 0.12
        found = made.under(Parallel(sizes), RandomStep(16))().density(x).value.mean()
        assert abs(float(found) - bound(losses, sizes)) < 0.12


@pytest.mark.parametrize("name", LAWS)
@torch.no_grad()
def test_completion_clamps_what_is_known_and_follows_the_conditionals(name: str) -> None:
    made = under(name)
    x = torch.tensor([[2.0, 7.0, 7.0, 0.0], [7.0, 1.0, 7.0, 7.0]]).double()
    known = torch.tensor([[True, False, False, True], [False, True, False, False]])
    found = made().complete(x, known, (20_000,))
    assert found.shape == (20_000, 2, D)
    assert bool((found == x)[:, known].all()) and bool((found < K).all())
    # the first row by hand: with two known, what is left is one block (late), or one entry after the other
    pairs, first = everything(2), torch.zeros(9).double()
    logits = made.network(x[0], known[0]).log_softmax(-1)
    for a, b in ((1, 2), (2, 1)):
        for i, pair in enumerate(pairs):
            value = {1: int(pair[0]), 2: int(pair[1])}
            second = logits
            if name != "late":
                filled, more = x[0].clone(), known[0].clone()
                filled[a], more[a] = value[a], True
                second = made.network(filled, more).log_softmax(-1)
            first[i] += 0.5 * (logits[a, value[a]] + second[b, value[b]]).exp()
    frequency = counted(found[:, 0, 1:3])
    if name == "parallel":  # blocks start at 0, 1 and 3: the third entry is drawn with the second, which is known
        assert abs(float(frequency.sum()) - 1) < 1e-6
    assert float(((frequency - first).abs() / (first * (1 - first) / 20_000).sqrt()).max()) < 4.5


@torch.no_grad()
def test_completion_of_nothing_and_of_everything() -> None:
    d, x = part()(), everything()[11]
    nothing, all_of_it = torch.zeros(D, dtype=torch.bool), torch.ones(D, dtype=torch.bool)
    assert torch.equal(d.complete(x, all_of_it, (2, 3)), x.expand(2, 3, D))
    assert d.complete(x, nothing, (50,)).std(0).min() > 0
    prefix = part(generation=FixedOrder((3, 1, 0, 2)))
    known = torch.tensor([False, True, False, True])
    found, exact = counted(prefix().complete(x, known, (20_000,))), prefix().density(everything()).value.exp()
    exact = exact * (everything()[:, known] == x[known]).all(-1)
    exact = exact / exact.sum()
    assert float((found - exact).abs().max()) < 0.02


def test_completion_says_what_is_wrong() -> None:
    d, x = part()(), everything()[0]
    with pytest.raises(ValueError, match=r"found an observation of shape \(3,\)"):
        d.complete(x, torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"found an observation of shape \(5,\)"):
        d.complete(torch.zeros(5), torch.ones(D, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"found known of torch.float64, expected torch.bool"):
        d.complete(x, x)


@torch.no_grad()
def test_contexts_meet_their_rows_in_completions() -> None:
    made = part(contexts=((2,), ()))
    context = (torch.randn(3, 2).double(), torch.randn(3).double())
    known = torch.tensor([True, False, False, False])
    found = made(context).complete(torch.zeros(D).double(), known, (2000,))
    assert found.shape == (2000, 3, D)
    for row in range(3):
        alone = made((context[0][row], context[1][row])).complete(torch.zeros(D).double(), known, (2000,))
        assert float((alone.mean(0) - found[:, row].mean(0)).abs().max()) < 0.12


def test_reals_have_a_density_in_their_units() -> None:
    made = part(2, GaussianMixture(2, floor=0.5), ScaledInput(), estimate=EveryOrder())
    axis = torch.linspace(-60, 60, 601).double()
    with torch.no_grad():
        evidence: Evidence = made().density(torch.cartesian_prod(axis, axis))
    assert evidence.measure == Measure(2, 0)
    assert abs(float(evidence.value.exp().sum()) * 0.2**2 - 1) < 1e-6
    assert made().sample((4,)).shape == (4, 2)


NETWORKS: dict[str, Any] = {
    "mlp": lambda c: OrderAgnosticMLP((1, 4, 4), 2, TrunkConfig(16, 1), c, ScaledInput()),
    "unet": lambda c: OrderAgnosticUNet((1, 4, 4), 2, UNetConfig(8), c, ScaledInput()),
    "attention": lambda c: OrderAgnosticAttention((1, 4, 4), 2, AttentionConfig(8, 1, 2), c, ScaledInput()),
    "sequence": lambda c: OrderAgnosticAttention((16,), 2, AttentionConfig(8, 1, 2), c, ScaledInput()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_see_what_is_known_and_nothing_else(name: str) -> None:
    torch.manual_seed(0)
    shape = (16,) if name == "sequence" else (1, 4, 4)
    network = NETWORKS[name](()).double()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(p + 0.3 * torch.randn_like(p))
    x, known = torch.randn(2, *shape).double(), torch.rand(2, *shape) < 0.5
    jacobian = torch.autograd.functional.jacobian(lambda v: network(v, known), x).flatten(-len(shape))
    for row in range(2):
        seen = jacobian[row].reshape(-1, 2, 16)
        outputs = seen[:, row].reshape(16, 2, 16).abs().amin(1)
        assert torch.equal(outputs != 0, known[row].flatten().expand(16, 16))
        assert not seen[:, 1 - row].any()
    with torch.no_grad():
        assert network(x, known).shape == (2, *shape, 2)
        hidden = torch.where(known, x, torch.nan)
        torch.testing.assert_close(network(hidden, known), network(x, known))
        assert not torch.allclose(network(0 * x, known), network(0 * x, ~known))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_take_any_context(name: str) -> None:
    shape = (16,) if name == "sequence" else (1, 4, 4)
    aligned = (16,) if name == "sequence" else (2, 4, 4)
    contexts = ((3,), aligned, ())
    made = AnyOrder(NETWORKS[name](contexts), GaussianHead(), shape, contexts)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn_like(p))
    context = (torch.randn(2, 1, 3), torch.randn(4, *aligned), torch.randn(2, 1))
    d = made(context)
    assert d.batch_shape == (2, 4) and d.sample((3,)).shape == (3, 2, 4, *shape)
    assert d.density(torch.randn(3, 1, 1, *shape)).value.shape == (3, 2, 4)
    known = torch.rand(2, 4, *shape) < 0.5
    x = torch.randn(2, 4, *shape)
    whole = made.network(x, known, context)
    row = made.network(x[1, 2], known[1, 2], (context[0][1, 0], context[1][2], context[2][1, 0]))
    torch.testing.assert_close(row, whole[1, 2], rtol=1e-4, atol=1e-4)
    for i in range(3):
        moved = tuple(c + (1.0 if i == j else 0.0) for j, c in enumerate(context))
        assert not torch.allclose(made.network(x, known, moved), whole)


class GaussianHead(GaussianMixture):
    """Two parameters an element, to fit the networks above."""

    def __init__(self) -> None:
        super().__init__(1)
        self.width = 2

    def forward(self, parameters: Tensor, event_dims: int) -> Any:
        return super().forward(torch.cat([parameters[..., :1] * 0, parameters], -1), event_dims)


def test_mistakes_are_refused() -> None:
    network = OrderAgnosticMLP((12,), 1, TrunkConfig(8, 1))
    with pytest.raises(ValueError, match="blocks that sum to 11"):
        AnyOrder(network, Bernoulli(), (12,), generation=Parallel((5, 6)))
    with pytest.raises(ValueError, match=r"permutation of 0\.\.11"):
        AnyOrder(network, Bernoulli(), (12,), generation=FixedOrder((0, 0, 1)))
    with pytest.raises(ValueError, match="found 12 entries, expected at most 10"):
        AnyOrder(network, Bernoulli(), (12,), estimate=EveryOrder())
    with pytest.raises(ValueError, match="the network gives 1 parameters an element, Categorical expects 3"):
        AnyOrder(network, Categorical(3), (12,))
    with pytest.raises(ValueError, match="OrderAgnosticMLP takes any"):
        OrderAgnosticAttention((2, 2, 2, 2), 1)
