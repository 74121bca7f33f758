"""The causal container with any layer: how observations are cut, what each element sees, contexts, steps, saving."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Bernoulli, Categorical
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalLayer, CausalNet, Frames, Pixels, Shift, Singles
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.recurrent import Recurrent
from genalloy.networks.causal.wavenet import CausalConvolution, WaveNet
from genalloy.networks.input_embedding import OneHot, ScaledInput

Shape = tuple[int, ...]
Tokens = Singles | Pixels | Frames
WIDTH = 6


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Mean(CausalLayer):
    """The mean of what came so far: sees every token, in ten lines."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.linear = width, nn.Linear(width, width)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        return torch.tanh(self.linear(h)).cumsum(1) / torch.arange(1, h.shape[1] + 1)[:, None]

    def init_state(self, n: int, like: Tensor) -> Tensor:
        return like.new_zeros(n, self.width)

    def step(self, state: Tensor, h: Tensor, t: int, c: Tensor) -> tuple[Tensor, Tensor]:
        state = state + torch.tanh(self.linear(h))
        return state, state / (t + 1)


LAYERS = {
    "mean": lambda: [Mean(WIDTH)],
    "none": list,
    "convolution": lambda: [CausalConvolution(WIDTH, 2, 2)],
    "wavenet": lambda: [WaveNet(WIDTH, (1, 2))],
    "recurrent, then mean": lambda: [Recurrent(WIDTH), Mean(WIDTH)],
}
CUTS: dict[str, tuple[Shape, Tokens]] = {
    "sequence": ((7,), Singles()),
    "sequence, as pixels": ((7,), Pixels()),
    "rows": ((4, 3), Pixels()),
    "rows, element by element": ((4, 3), Singles()),
    "rows, all at once": ((4, 3), Frames()),
    "image": ((2, 2, 3), Pixels()),
    "image, channels turned": ((3, 2, 2), Pixels((2, 0, 1))),
    "image, element by element": ((2, 2, 3), Singles()),
}
ORDERS: dict[str, tuple[int, ...]] = {
    "rows": tuple(range(12)),
    "image": (0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11),
    "image, channels turned": (8, 0, 4, 9, 1, 5, 10, 2, 6, 11, 3, 7),
    "image, element by element": (0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11),
}


def build(
    cut: str, layers: str = "mean", contexts: tuple[Shape, ...] = (), entry: OneHot | ScaledInput = ScaledInput()
) -> CausalNet:
    event, tokens = CUTS[cut]
    places = PositionalEmbedding(tokens.cut(event).grid, WIDTH, contexts)
    return CausalNet(event, 3, Shift(WIDTH), LAYERS[layers](), places, tokens, entry)


@pytest.mark.parametrize("cut", ORDERS)
def test_order_of_generation(cut: str) -> None:
    assert build(cut).sequence == ORDERS[cut]


@pytest.mark.parametrize("cut", CUTS)
def test_each_element_sees_exactly_the_elements_before(cut: str) -> None:
    """Through a layer that sees every token: all before it in order, for frames all of earlier frames."""
    network = build(cut).double()
    for parameter in network.parameters():
        parameter.data = parameter.data.abs() + 0.05
    event = network.event_shape
    x = torch.rand(event, dtype=torch.float64) / 10
    n = x.numel()
    found = torch.autograd.functional.jacobian(network, x, vectorize=True).abs().sum(len(event)).reshape(n, n) > 0
    rank = torch.tensor(network.sequence).argsort() // (network.group if network.tokens.joint else 1)
    assert torch.equal(found, rank[:, None] > rank)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("cut", CUTS)
def test_steps_equal_the_parallel_pass(cut: str, layers: str) -> None:
    part = perturb_parameters(Autoregressive(build(cut, layers, entry=OneHot(3)), Categorical(3), CUTS[cut][0]))
    cached_equals_naive(Subject(part, CUTS[cut][0], (), True, 3))


CONTEXTS: dict[str, tuple[Shape, ...]] = {
    "label": ((),),
    "vector": ((3,),),
    "image on the grid": ((2, 2, 3),),
    "image of another size": ((1, 5, 4),),
    "many": ((3,), (1, 2, 3), ()),
}


@pytest.mark.parametrize("layers", ["mean", "wavenet"])
@pytest.mark.parametrize("contexts", CONTEXTS)
def test_steps_equal_the_parallel_pass_under_any_context(contexts: str, layers: str) -> None:
    shapes = CONTEXTS[contexts]
    part = perturb_parameters(Autoregressive(build("image", layers, shapes, OneHot(3)), Categorical(3), (2, 2, 3), shapes))
    cached_equals_naive(Subject(part, (2, 2, 3), shapes, True, 3))


@pytest.mark.parametrize("contexts", CONTEXTS)
def test_every_context_reaches_every_element(contexts: str) -> None:
    shapes = CONTEXTS[contexts]
    network = build("image", "mean", shapes)
    parts = tuple(torch.randn(s) for s in shapes)
    jacobians = torch.autograd.functional.jacobian(lambda *c: network(torch.zeros(2, 2, 3), c), parts)
    for jacobian, shape in zip(jacobians, shapes, strict=True):
        whole = jacobian.abs().flatten(4) if shape else jacobian.abs().unsqueeze(-1)
        reached = whole.sum((3, 4)) > 0
        assert reached[:, 1].all() and (reached.all() or len(shape) == 3)


def test_a_context_on_the_grid_enters_at_its_own_place() -> None:
    """Without layers, an element sees the map around its own pixel, three wide, and nothing of the rest of it."""
    network = build("image", "none", ((1, 2, 3),)).double()
    jacobian = torch.autograd.functional.jacobian(
        lambda c: network(torch.zeros(2, 2, 3, dtype=torch.float64), c), torch.randn(1, 2, 3, dtype=torch.float64)
    )
    seen = jacobian.abs().sum((0, 3, 4)) > 0
    for row, column, other, place in itertools.product(range(2), range(3), range(2), range(3)):
        assert seen[row, column, other, place] == (abs(row - other) <= 1 and abs(column - place) <= 1)


def test_batches_of_context_and_observation_broadcast() -> None:
    network = build("image", "wavenet", ((3,),))
    x, c = torch.rand(4, 1, 2, 2, 3), torch.randn(5, 3)
    out = network(x, c)
    assert out.shape == (4, 5, 2, 2, 3, 3)
    torch.testing.assert_close(out[2, 3], network(x[2, 0], c[3]))


@pytest.mark.parametrize(
    ("cut", "head"), [("sequence", Categorical(2)), ("image", Bernoulli()), ("rows, all at once", Bernoulli())]
)
def test_masses_sum_to_one(cut: str, head: nn.Module) -> None:
    event, tokens = CUTS[cut]
    places = PositionalEmbedding(tokens.cut(event).grid, WIDTH)
    network = CausalNet(event, head.width, Shift(WIDTH), LAYERS["wavenet"](), places, tokens, OneHot(2))
    part = perturb_parameters(Autoregressive(network, head, event))
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=torch.Size(event).numel()))).unflatten(1, event)
    torch.testing.assert_close(part().density(every).value.double().exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_frames_are_independent_given_the_frames_before() -> None:
    """One step gives the parameters of a whole frame; a draw reports its own density."""
    distribution = Autoregressive(build("rows, all at once", entry=OneHot(3)), Categorical(3), (4, 3))()
    _, parameters = distribution.step(distribution.init_state((2,)), None)
    assert parameters.shape == (2, 3, 3)
    with torch.no_grad():
        drawn, evidence = distribution.draw((6,))
    assert drawn.shape == (6, 4, 3)
    torch.testing.assert_close(evidence.value, distribution.density(drawn).value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", CUTS)
def test_saved_and_rebuilt(cut: str) -> None:
    network = build(cut, "wavenet", ((3,),))
    again = from_spec(*to_spec(network))
    x, c = torch.rand(2, *CUTS[cut][0]), torch.randn(2, 3)
    assert again.tokens == network.tokens and again.sequence == network.sequence
    torch.testing.assert_close(again(x, c), network(x, c))


def test_double_precision_stays_what_it_is() -> None:
    """Also where neither positions nor context tell the dtype."""
    places = PositionalEmbedding((7,), WIDTH, positions=False, spread=False)
    network = CausalNet((7,), 3, Shift(WIDTH), [WaveNet(WIDTH, (1, 2), conditioned=False)], places, entry=OneHot(3)).double()
    part = Autoregressive(network, Categorical(3), (7,))
    assert part().sample((2,)).dtype == torch.float64
    assert network(torch.zeros(2, 7, dtype=torch.float64)).dtype == torch.float64


def test_places_of_another_grid_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found places for the grid \(5,\), expected \(2, 3\)"):
        CausalNet((2, 2, 3), 3, Shift(WIDTH), [], PositionalEmbedding((5,), WIDTH), Pixels())


def test_missing_context_is_refused() -> None:
    network = build("sequence", contexts=((3,), ()))
    with pytest.raises(ValueError, match="found a context of 0 unnamed"):
        network(torch.zeros(7))


def test_a_head_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="the network gives 3 parameters"):
        Autoregressive(build("sequence"), Categorical(4), (7,))
