"""Adversarial objectives: divergences at the best critic, penalties, ownership, scaling, ports."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.evidence import Unavailable
from genalloy.core.part import Conditional
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.flow import Preprocessed
from genalloy.models.implicit import Implicit
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP, ResidualMLP
from genalloy.objectives.adversarial import R1, R2, Adversarial, Critic, Game, GradientPenalty, Health, health
from genalloy.objectives.objective import Play, Player
from genalloy.objectives.payoffs import Hinge, LeastSquares, NonSaturating, Payoff, Relativistic, Wasserstein
from genalloy.objectives.reconstruction import Reconstruction
from genalloy.objectives.sources import At, Beside, Data, Encode, Given, Points, PointSource, Prior, Sample
from genalloy.training.slots import players
from genalloy.transforms.observation import Dequantise, Standardise

P, Q = torch.tensor([0.7, 0.1, 0.2]), torch.tensor([0.2, 0.5, 0.3])
M = (P + Q) / 2
JENSEN_SHANNON = float((P * (P / M).log()).sum() + (Q * (Q / M).log()).sum()) / 2
BEST = {
    NonSaturating(): 2 * math.log(2) - 2 * JENSEN_SHANNON,
    Hinge(): 2 - float((P - Q).abs().sum()),
    LeastSquares(): float((P * Q / (P + Q)).sum()),
}


SHOWN = {
    NonSaturating: JENSEN_SHANNON,
    Hinge: float((P - Q).abs().sum()) / 2,
    LeastSquares: float(((P - Q).square() / (P + Q)).sum()),
}


def repeated(weights: Tensor, scores: Tensor) -> Tensor:
    """Scores of a sample in which each of three points appears in proportion to its weight."""
    return torch.cat([s.expand(round(float(w) * 10)) for w, s in zip(weights, scores, strict=True)])


@pytest.mark.parametrize("payoff", BEST, ids=lambda p: type(p).__name__)
def test_the_best_critic_measures_the_divergence(payoff: Payoff) -> None:
    scores = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([scores], 0.02)
    for _ in range(600):
        optimizer.zero_grad()
        loss = payoff.critic(repeated(P, scores), repeated(Q, scores))
        loss.backward()
        optimizer.step()
    assert float(loss) == pytest.approx(BEST[payoff], abs=5e-3)
    shown = payoff.estimate(repeated(P, scores), repeated(Q, scores))
    assert float(shown) == pytest.approx(SHOWN[type(payoff)], abs=5e-3)


def test_wasserstein_is_the_shift_for_the_linear_critic_and_relativistic_is_blind_at_equality() -> None:
    x = torch.linspace(-1, 1, 11)
    assert float(Wasserstein().critic(x + 2.0, x)) == pytest.approx(-2.0)
    assert float(Wasserstein().estimate(x + 2.0, x)) == pytest.approx(2.0)
    assert float(Relativistic().critic(x, x)) == pytest.approx(math.log(2))
    assert float(Relativistic().estimate(x, x)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("payoff", [*BEST, Relativistic(), Wasserstein()], ids=lambda p: type(p).__name__)
def test_the_models_payoff_wants_fakes_up_and_reals_down(payoff: Payoff) -> None:
    real, fake = torch.full((4,), 0.3, requires_grad=True), torch.full((4,), -0.2, requires_grad=True)
    payoff.model(real, fake).backward()
    assert (fake.grad < 0).all()
    assert (real.grad > 0).all()


def generator(dims: int = 2) -> Implicit:
    return Implicit(StandardNormal((2,)), ResidualMLP(((2,),), dims, 16, 1), (dims,))


def critic(dims: int = 2, **options: object) -> Critic:
    return Critic(MLP(((dims,),), 1, (16,), nn.Tanh), **options)  # type: ignore[arg-type]


def test_penalties_equal_brute_force_on_either_side() -> None:
    torch.manual_seed(0)
    judge = critic(3, terms=())
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    play = Play(generator(3), Batch(x))
    play.once(Sample(), lambda: Points(y))
    plain = NonSaturating().critic(judge.score(Points(x)), judge.score(Points(y)))
    Adversarial(judge, NonSaturating())
    for terms, points in (((R1(0.3),), [x]), ((R2(0.3),), [y]), ((R1(0.3), R2(0.3)), [x, y])):
        judge.terms = terms
        expected = plain + sum(0.15 * torch.stack([_slope(judge, p).square().sum() for p in s]).mean() for s in points)
        found = judge.loss(play)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
        ours = torch.autograd.grad(found, list(judge.parameters()))
        theirs = torch.autograd.grad(expected, list(judge.parameters()), retain_graph=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def _slope(judge: Critic, point: Tensor) -> Tensor:
    point = point.clone().requires_grad_()
    return torch.autograd.grad(judge.score(Points(point.unsqueeze(0))).sum(), point, create_graph=True)[0]


def test_gamma_follows_the_dimension_and_the_lipschitz_penalty_lies_between() -> None:
    class Slopes(Game):
        """A game in which every slope is 2, and which remembers where it was asked."""

        def __init__(self, dims: int) -> None:
            self.real, self.fake = Points(torch.zeros(500, dims)), Points(torch.ones(500, dims))

        def slope(self, points: Points) -> Tensor:
            self.asked = points.x
            return torch.full((len(points.x),), 4.0)

    assert float(R1()(Slopes(64))) == pytest.approx(32 * float(R1()(Slopes(2))))
    assert float(R1(2.0)(Slopes(64))) == pytest.approx(4.0)
    between = Slopes(2)
    assert float(GradientPenalty(10.0)(between)) == pytest.approx(10.0)
    assert torch.allclose(between.asked[:, 0], between.asked[:, 1])
    assert float(between.asked.mean()) == pytest.approx(0.5, abs=0.05)
    wgan = critic(terms=(GradientPenalty(),))
    Adversarial(wgan, Wasserstein())
    assert torch.isfinite(wgan.loss(Play(generator(), Batch(torch.randn(6, 2)))))


def test_the_critic_owns_itself_and_scaling_leaves_its_problem_alone() -> None:
    torch.manual_seed(0)
    model, x = generator(), torch.randn(8, 2)
    objective = Adversarial(critic())
    scaled = 0.1 * objective
    for each in (objective, scaled):
        found = {p.name: {id(q) for q in p.parameters} for p in players(model, each)}
        assert found["critic"] == {id(p) for p in objective.critic.parameters()}
        assert found["model"] == {id(p) for p in model.parameters()}
    losses, payoffs = [], []
    for each in (objective, scaled):
        rival = next(m for m in each.modules() if isinstance(m, Player))
        torch.manual_seed(1)
        losses.append(float(rival.loss(Play(model, Batch(x)))))
        torch.manual_seed(1)
        payoffs.append(float(each(Play(model, Batch(x)))))
    assert losses[0] == losses[1]
    assert payoffs[1] == pytest.approx(0.1 * payoffs[0])


def test_the_critics_turn_sends_no_gradient_to_the_model_and_the_models_turn_does() -> None:
    model, objective, x = generator(), Adversarial(critic()), torch.randn(8, 2)
    objective.critic.loss(Play(model, Batch(x))).backward()
    assert all(p.grad is None for p in model.parameters())
    objective(Play(model, Batch(x))).backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_one_critic_judges_one_game() -> None:
    judge = critic()
    Adversarial(judge)
    Adversarial(judge)
    with pytest.raises(ValueError, match="of its own"):
        Adversarial(judge, Hinge())
    with pytest.raises(ValueError, match="no game"):
        critic().loss(Play(generator(), Batch(torch.zeros(2, 2))))


def autoencoder(dims: int = 3) -> LatentVariable:
    head, width = Gaussian(), 2
    posterior = Conditional(head, MLP(((dims,),), 2 * width), (2,), ((dims,),))
    likelihood = Conditional(Gaussian(), MLP(((2,),), 2 * dims), (dims,), ((2,),))
    return LatentVariable(StandardNormal((2,)), likelihood, posterior)


def test_data_and_sample_meet_behind_fixed_preprocessing() -> None:
    shape = torch.Size((2,))
    layers = [
        Dequantise(torch.ones(shape, dtype=torch.bool), torch.zeros(shape), torch.full(shape, 3.0)),
        Standardise(torch.full(shape, 2.0), torch.full(shape, 0.5)),
    ]
    play = Play(Preprocessed(generator(), layers, (2,)), Batch(torch.ones(6, 2)))
    real, fake = Data()(play), Sample()(play)
    assert ((real.x >= -2) & (real.x < 0)).all()
    assert fake.x.requires_grad and not fake.detach().x.requires_grad
    assert Sample()(play) is fake
    assert Data()(play) is real


def test_prior_encode_and_at_meet_in_the_code_space() -> None:
    play = Play(autoencoder(), Batch(torch.randn(6, 3)))
    prior, code = Prior()(play), Encode()(play)
    assert prior.x.shape == code.x.shape == (6, 2)
    assert code.x.requires_grad
    assert Encode()(play) is code
    assert torch.equal(Encode(mean=True)(play).x, At("encode")(play).x)
    assert At("infer")(play).x.shape == (6, 2)
    assert At("reconstruct")(play).x.shape == (6, 3)


class _Shifted(PointSource):
    """A source with the model on the real side."""

    def points(self, play: Play) -> Points:
        return Encode()(play)


def test_the_models_payoff_moves_both_sides() -> None:
    model = autoencoder()
    judge = critic()
    play = Play(model, Batch(torch.randn(6, 3)))
    Adversarial(judge, real=_Shifted(), fake=Prior())(play).backward()
    assert any(p.grad is not None for p in model.posterior.parameters())


def test_an_adversarial_autoencoder_in_one_line() -> None:
    torch.manual_seed(0)
    model, x = autoencoder(), torch.randn(6, 3)
    objective = Reconstruction() + Adversarial(critic(), real=Prior(), fake=Encode())
    play = Play(model, Batch(x))
    objective.check(play)
    value = objective(play)
    z = Encode()(play).x
    expected = -model.likelihood(z).density(x).value.mean() / 3
    assert float(play.terms[repr(objective.terms[0])]) == pytest.approx(float(expected), rel=1e-5)
    assert torch.isfinite(value)
    assert float(Reconstruction(per_dim=False)(play)) == pytest.approx(3 * float(expected), rel=1e-5)
    with pytest.raises(Unavailable, match="infer"):
        objective.check(Play(generator(), Batch(x[:, :2])))


def test_samples_without_gradient_are_refused_with_a_remedy() -> None:
    bits = Conditional(Bernoulli(), MLP(((),), 2), (2,), ((),))
    play = Play(bits, Batch(torch.zeros(4, 2), torch.zeros(4)))
    with pytest.raises(Unavailable, match="Gumbel-softmax"):
        Adversarial(critic()).check(play)


def test_shapes_of_the_sources_must_agree() -> None:
    with pytest.raises(ValueError, match="fake ones"):
        Adversarial(critic(3), real=Data(), fake=Encode()).check(Play(autoencoder(), Batch(torch.zeros(4, 3))))


def test_a_conditional_critic_sees_the_context() -> None:
    judge = Critic(MLP(((2,), (3,)), 1))
    model = Implicit(StandardNormal((2,)), MLP(((2,), (3,)), 2), (2,), ((3,),))
    objective = Adversarial(judge, real=Beside(Data(), Given()), fake=Beside(Sample(), Given()))
    play = Play(model, Batch(torch.randn(5, 2), torch.randn(5, 3)))
    assert torch.isfinite(objective(play))
    assert torch.isfinite(judge.loss(play))


def test_health_in_numbers_and_words() -> None:
    torch.manual_seed(0)
    objective, model = Adversarial(critic()), generator()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.01)
        vital = health(objective, Play(model, Batch(torch.randn(64, 2))))
    assert vital.spread < 0.5
    assert "collapse" in vital.words()
    assert "too strong" in Health(6.0, 1.0, 1.0, 1.0).words()
    assert "gamma is too small" in Health(0.1, 20.0, 1.0, 1.0).words()
    assert "healthy" in Health(0.1, 1.0, 1.0, 1.0).words()


def test_adversarial_objectives_print_copy_and_are_stored() -> None:
    torch.manual_seed(0)
    objective = 0.1 * Adversarial(critic(terms=(R1(0.5),), turns=2), Hinge(), Prior(), Encode(True))
    assert "0.1 * Adversarial" in repr(objective)
    x = torch.randn(6, 3)
    for again in (from_spec(*to_spec(objective)), copy.deepcopy(objective)):
        judge = again.term.critic
        assert (judge.turns, judge.terms) == (2, (R1(0.5),))
        assert judge.game == (Hinge(), Prior(), Encode(True))
        model = autoencoder()
        torch.manual_seed(3)
        value = objective.term.critic.loss(Play(model, Batch(x)))
        torch.manual_seed(3)
        assert torch.allclose(judge.loss(Play(model, Batch(x))), value)
