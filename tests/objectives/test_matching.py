"""Flow matching: targets, couplings, sources, the second phase, and the regularisers of a solve."""

from itertools import permutations

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.evidence import Unavailable
from genalloy.diffusion.parameterisations import Velocity
from genalloy.diffusion.paths import CosinePath, VariancePreserving
from genalloy.diffusion.times import UniformTime
from genalloy.diffusion.weights import Unit
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.subject import perturb_parameters
from genalloy.models.diffusion import ContinuousData, Diffusion
from genalloy.models.flow import Flow, Preprocessed
from genalloy.networks.concat_squash import ConcatSquash
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.matching import FlowMatching, Independent, JacobianNorm, KineticEnergy, OptimalTransport, Reflow
from genalloy.objectives.objective import Play
from genalloy.objectives.score import DenoisingScoreMatching
from genalloy.solvers.ode import Euler, Steps
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.transforms.observation import Standardise
from genalloy.transforms.ode import Continuous


def flow(base=None, context=(), **options):
    torch.manual_seed(0)
    ode = Continuous(ConcatSquash(((2,), (), *context), (16, 16), features=8), (2,), **options)
    return Flow(base or StandardNormal((2,)), [ode], (2,), context)


class Far(StandardNormal):
    """N((10, 0), I)."""

    def forward(self, context=None):
        return torch.distributions.Independent(torch.distributions.Normal(torch.tensor([10.0, 0.0]), torch.ones(2)), 1)


def loss(objective, model, x, context=None):
    with torch.no_grad():
        return float(objective(Play(model, Batch(x, context))))


def test_a_field_of_zero_pays_the_target_s_square():
    x = torch.randn(20000, 2)
    assert abs(loss(FlowMatching(), flow(), x) - 4.0) < 0.1  # |eps - y|^2: variance 2 in each of 2 dimensions
    assert abs(loss(FlowMatching(), flow(Far((2,))), x) - 104.0) < 1.0  # the source is the flow's own base
    cosine = loss(FlowMatching(path=CosinePath()), flow(), x)
    assert abs(cosine - 2 * (torch.pi / 2) ** 2) < 0.15  # alpha'^2 + sigma'^2 = (pi/2)^2


def test_pairs_of_least_cost_are_those_of_brute_force():
    torch.manual_seed(0)
    y, source = torch.randn(6, 2), torch.randn(6, 2)
    paired = OptimalTransport().pair(y, source, None)
    best = min(float((y - source[list(p)]).square().sum()) for p in permutations(range(6)))
    assert abs(float((y - paired).square().sum()) - best) < 1e-4
    assert sorted(paired[:, 0].tolist()) == sorted(source[:, 0].tolist())
    assert torch.equal(Independent().pair(y, source, None), source)


def test_transport_shortens_what_is_regressed():
    x = torch.randn(256, 2)
    assert loss(FlowMatching(OptimalTransport()), flow(), x) < 0.3 * loss(FlowMatching(), flow(), x)


def test_pairs_stay_within_their_context():
    torch.manual_seed(0)
    y, source = torch.randn(8, 2), torch.randn(8, 2)
    label = torch.tensor([0.0, 1.0]).repeat(4)
    paired = OptimalTransport().pair(y, source, label)
    for k in (0, 1):
        assert sorted(paired[label == k, 0].tolist()) == sorted(source[label == k, 0].tolist())
    assert not torch.equal(paired, source)
    unique = torch.arange(8.0)
    assert torch.equal(OptimalTransport().pair(y, source, (unique, label)), source)
    free = OptimalTransport(weight=0.0).pair(y, source, unique)
    assert torch.equal(free, OptimalTransport().pair(y, source, None))


def test_coupled_rows_are_not_cut_into_shards():
    with pytest.raises(ValueError, match="couples the rows"):
        list(fit(flow(), FlowMatching(OptimalTransport()), [Batch(torch.randn(8, 2))], training=Training(shards=2)))


def test_on_a_diffusion_it_is_score_matching_of_the_velocity():
    """The same expectation as |F - target|^2 under uniform time, for F = velocity."""
    torch.manual_seed(0)
    network = DenoiserMLP(((2,), ()), width=16, blocks=1)
    part = perturb_parameters(Diffusion(network, (2,), ContinuousData(standardise=False), parameterisation=Velocity()))
    x = torch.randn(20000, 2)
    a, b = loss(FlowMatching(), part, x), loss(DenoisingScoreMatching(Unit(), UniformTime()), part, x)
    assert abs(a - b) < 0.05 * b


def test_paths_that_do_not_fit_are_refused():
    x = torch.randn(4, 2)
    with pytest.raises(Unavailable, match="from data to source"):
        FlowMatching(path=VariancePreserving()).check(Play(flow(), Batch(x)))
    part = Diffusion(DenoiserMLP(((2,), ()), width=8, blocks=1), (2,), ContinuousData())
    with pytest.raises(Unavailable, match="same path"):
        FlowMatching(path=CosinePath()).check(Play(part, Batch(x)))
    with pytest.raises(Unavailable, match="velocity"):
        FlowMatching().check(Play(StandardNormal((2,)), Batch(x)))


def test_learns_through_preprocessing_from_any_base():
    """From N((10, 0), I) to N((-3, 5), 4 I), data as given."""
    inner = flow(Far((2,)), steps=Steps(8, 8))
    model = Preprocessed(inner, [Standardise(torch.tensor([-3.0, 5.0]), torch.tensor([2.0, 2.0]))], (2,))
    torch.manual_seed(0)
    rows = (Batch(torch.tensor([-3.0, 5.0]) + 2 * torch.randn(256, 2)) for _ in range(300))
    for _ in fit(model, FlowMatching(), rows, training=Training(Adam(1e-2))):
        pass
    x = model().sample((2000,))
    torch.testing.assert_close(x.mean(0), torch.tensor([-3.0, 5.0]), atol=0.4, rtol=0)
    torch.testing.assert_close(x.std(0), torch.tensor([2.0, 2.0]), atol=0.4, rtol=0)


def test_conditional_rows_learn_their_own_law():
    model = flow(context=((),), steps=Steps(8, 8))
    torch.manual_seed(0)

    def rows():
        for _ in range(300):
            label = torch.randint(0, 2, (256,)).float()
            yield Batch(0.5 * torch.randn(256, 2) + (4 * label - 2).unsqueeze(-1), label)

    for _ in fit(model, FlowMatching(OptimalTransport()), rows(), training=Training(Adam(1e-2))):
        pass
    means = model(torch.tensor([0.0, 1.0])).sample((1000,)).mean(0)
    torch.testing.assert_close(means, torch.tensor([[-2.0, -2.0], [2.0, 2.0]]), atol=0.3, rtol=0)


def test_reflow_keeps_the_first_phase_s_own_pairs():
    model = perturb_parameters(flow(steps=Steps(2, 16)))
    objective = Reflow((2,), 64)
    frozen = {k: v.clone() for k, v in model.state_dict().items()}
    play = Play(model, Batch(torch.randn(32, 2)))
    assert torch.isfinite(objective(play)) and bool(objective.drawn) and model.training
    pairs = objective.noise.clone(), objective.sample.clone()
    assert pairs[0].std() > 0.5
    with torch.no_grad():
        torch.testing.assert_close(model.eval()().decode(pairs[0]), pairs[1])  # the evaluation grid
        for p in model.parameters():
            p.add_(1.0)
    objective(play)
    assert torch.equal(objective.sample, pairs[1]), "drawn once"
    assert any(not torch.equal(v, frozen[k]) for k, v in model.state_dict().items())
    with pytest.raises(Unavailable, match="conditional"):
        Reflow((2,), 8).check(Play(flow(context=((),)), Batch(torch.randn(4, 2), torch.zeros(4))))


def test_a_perfect_straight_flow_pays_nothing_for_its_own_pairs():
    """A constant field: its pairs are parallel lines, and Euler's one step is exact."""
    model = flow(solver=Euler(), steps=Steps(1, 1))
    with torch.no_grad():
        model.layers[0].field.condition[-1].bias[-2:] = torch.tensor([1.0, -2.0])
    assert loss(Reflow((2,), 64), model, torch.randn(16, 2)) < 1e-8
    assert loss(FlowMatching(), model, torch.randn(16, 2)) > 1


def test_regularisers_of_a_constant_and_of_a_linear_field():
    model = flow()
    x = torch.randn(16, 2)
    with torch.no_grad():
        model.layers[0].field.condition[-1].bias[-2:] = torch.tensor([1.0, -2.0])
    assert abs(loss(KineticEnergy(), model, x) - 5.0) < 1e-4 and loss(JacobianNorm(), model, x) < 1e-8
    bent = perturb_parameters(model)
    ode, path = bent.layers[0], []
    ode.solver, ode.steps = Euler(), Steps(1, 1)
    with torch.no_grad():
        speed = ode.velocity(x, torch.tensor(0.0)).square().sum(-1).mean()
        for row in x:
            path.append(torch.autograd.functional.jacobian(lambda y: ode.velocity(y, torch.tensor(0.0)), row).square().sum())
    assert abs(loss(KineticEnergy(), bent, x) - float(speed)) < 1e-4 * float(speed)
    assert abs(loss(JacobianNorm(), bent, x) - float(torch.stack(path).mean())) < 1e-4 * float(torch.stack(path).mean())


@pytest.mark.parametrize("first", ["likelihood first", "likelihood last"])
def test_regularisers_share_the_likelihood_s_solve(first):
    inner = perturb_parameters(flow())
    model = Preprocessed(inner, [Standardise(torch.zeros(2), torch.full((2,), 2.0))], (2,))
    calls = []
    inner.layers[0].field.register_forward_hook(lambda *_: calls.append(1))
    terms = [MaximumLikelihood(), 0.1 * KineticEnergy(), 0.1 * JacobianNorm()]
    terms = terms if first == "likelihood first" else terms[::-1]
    play = Play(model, Batch(torch.randn(8, 2)))
    (terms[0] + terms[1] + terms[2])(play).backward()
    assert len(calls) == inner.layers[0].evaluations
    with pytest.raises(Unavailable, match="journey"):
        KineticEnergy().check(Play(StandardNormal((2,)), Batch(torch.randn(4, 2))))


def test_pairs_keep_to_named_contexts():
    y, source = torch.arange(4.0)[:, None], torch.tensor([[3.0], [2.0], [1.0], [0.0]])
    label = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.equal(OptimalTransport().pair(y, source, {"label": label}), OptimalTransport().pair(y, source, label))
