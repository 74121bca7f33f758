"""Rows of adversarial systems as short compositions: each trains, each is stored, and none needs a loss of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.part import Conditional, Part
from genalloy.core.schedules import Linear
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.implicit import Implicit
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP, ResidualMLP
from genalloy.objectives.adversarial import (
    R1,
    R2,
    Adversarial,
    AuxiliaryLabels,
    Consistency,
    Critic,
    Game,
    GradientPenalty,
    Orthogonality,
    WeightClipping,
)  # fmt: skip
from genalloy.objectives.bounds import ELBO
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.match import MMD, Match, MatchMoments
from genalloy.objectives.objective import Objective, Play, Player, Turn
from genalloy.objectives.payoffs import Hinge, LeastSquares, NonSaturating, Payoff, Relativistic, Wasserstein
from genalloy.objectives.reconstruction import Reconstruction
from genalloy.objectives.sources import Beside, Data, Decode, Encode, Given, Noised, Points, Prior, Rows, Sample, Through
from genalloy.training.fit import Step, fit
from genalloy.training.options import Adam, Training
from genalloy.training.slots import players

D, Z = 3, 2


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def rows(count: int, size: int = 16, labels: bool = False) -> list[Batch]:
    return [Batch(torch.randn(size, D), torch.randint(3, (size,)).float() if labels else None) for _ in range(count)]


def train(model: nn.Module, objective: Objective, batches: list[Batch], **options: Any) -> list[Step]:
    return list(fit(model, objective, batches, training=Training(Adam(1e-3), **options)))


def stored(model: nn.Module, objective: Objective, batch: Batch) -> None:
    """The pair comes back with the same loss under the same noise."""
    twins = from_spec(*to_spec(model)), from_spec(*to_spec(objective))
    losses = []
    for m, o in ((model, objective), twins):
        torch.manual_seed(7)
        losses.append(o.train()(Play(m.train(), batch)))
    torch.testing.assert_close(*losses)


def vae(network: nn.Module | None = None) -> LatentVariable:
    encoder = Conditional(Gaussian(), network or MLP(((D,),), 2 * Z, (8,)), (Z,), ((D,),))
    return LatentVariable(StandardNormal((Z,)), Conditional(Gaussian(), MLP(((Z,),), 2 * D, (8,)), (D,), ((Z,),)), encoder)


def generator() -> Implicit:
    return Implicit(StandardNormal((Z,)), ResidualMLP(((Z,),), D, 8, 1), (D,))


def normed(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.LeakyReLU(), nn.Linear(8, outputs))


# -- rows -------------------------------------------------------------------------------------------------------------


def test_vae_gan() -> None:
    """Larsen et al., 2016: the encoder has a turn of its own, the decoder fools a critic with samples and reconstructions."""
    model = vae(normed(D, 2 * Z))
    critic = Critic(MLP(((D,),), 1, (8,)))
    fooling = Adversarial(critic, NonSaturating(), real=Data(), fake=Decode(Prior()))
    objective = Reconstruction() + 0.1 * fooling + Turn(ELBO(), "posterior")
    assert repr(objective).endswith("+ Turn(objective, part='posterior')")
    slots = {slot.name: slot for slot in players(model, objective)}
    assert set(slots) == {"critic", "turn1", "model"}
    statistics = model.posterior.network[1].running_mean
    assert not any(b is statistics for b in slots["turn1"].others), "its batch statistics move in its own turn"
    assert any(b is statistics for b in slots["model"].others) and any(b is statistics for b in slots["critic"].others)
    step = train(model, objective, rows(4), ema=0.9)[-1]
    assert {"critic", "turn1", "model"} <= set(step.losses) and "turn1/kl/z" in step.terms and "critic/margin" in step.terms
    assert set(step.state.average) == set(model.state_dict()), "the average holds all of the model, whoever moves it"
    assert not torch.equal(step.state.average["posterior.network.1.running_mean"], torch.zeros(8))
    assert torch.equal(step.state.average["posterior.network.1.num_batches_tracked"], torch.tensor(4))
    stored(model, objective, rows(1)[0])


def test_bigan() -> None:
    """Donahue et al., 2017: pairs of data and code; the model is on both sides, and the critic's slopes are taken in x."""
    model = vae()
    critic = Critic(MLP(((D,), (Z,)), 1, (8,)))
    objective = Adversarial(critic, NonSaturating(), real=Beside(Data(), Encode()), fake=Beside(Decode(Prior()), Prior()))
    step = train(model, objective, rows(3))[-1]
    assert step.norms["model"] > 0 and step.norms["critic"] > 0
    objective(Play(model, rows(1)[0])).backward()
    assert (
        all(p.grad is not None for p in model.posterior.parameters()) and model.likelihood.network.net[0].weight.grad is not None
    )
    stored(model, objective, rows(1)[0])


class TwoWays(Part):
    """Two maps between two sets of points; as a distribution it is the images of N(0, 1) under the first."""

    def __init__(self, ab: nn.Module, ba: nn.Module) -> None:
        super().__init__()
        self.ab, self.ba, self.event_shape = ab, ba, (D,)

    def forward(self, context: Any = None) -> Any:
        return Implicit(StandardNormal((D,)), self.ab, (D,))()


def test_cyclegan_on_two_unpaired_sets() -> None:
    """Zhu et al., 2017: rows of a, and rows of b as the batch's context; neither knows of the other."""
    model = TwoWays(MLP(((D,),), D, (16,)), MLP(((D,),), D, (16,)))
    a, b = Rows(), Given()
    there, back = Through("ab", a), Through("ba", b)
    to_b = Adversarial(Critic(MLP(((D,),), 1, (16,))), real=b, fake=there)
    to_a = Adversarial(Critic(MLP(((D,),), 1, (16,))), real=a, fake=back)
    cycles = Match(a, Through("ba", there)) + Match(b, Through("ab", back))
    objective = to_b + to_a + 10.0 * cycles
    batches = [Batch(torch.randn(64, D), torch.randn(64, D) + 2.0) for _ in range(250)]
    steps = list(fit(model, objective, batches, training=Training(Adam(5e-3, (0.0, 0.99)))))
    assert {"critic", "critic1", "model"} == set(steps[-1].losses)
    play = Play(model, Batch(torch.randn(500, D), torch.randn(500, D) + 2.0))
    with torch.no_grad():
        moved, returned = there(play).x, Through("ba", there)(play).x
    assert float(moved.mean()) > 1.0, "points of a arrive near b"
    assert float((returned - a(play).x).abs().mean()) < 0.5, "and find back"
    torch.manual_seed(7)
    expected = objective(Play(model, batches[0]))
    pair = from_spec(*to_spec(objective))
    torch.manual_seed(7)
    torch.testing.assert_close(pair(Play(model, batches[0])), expected)
    with pytest.raises(ValueError, match="needs one tensor as the context"):
        objective.check(Play(model, Batch(torch.randn(4, D))))


class Labelling(nn.Module):
    """A critic's trunk with a score and logits of labels."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head, self.labels = nn.Linear(D, 8), nn.Linear(8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).relu())

    def classify(self, x: Tensor) -> Tensor:
        return self.labels(self.trunk(x).relu())


def test_auxiliary_labels_teach_the_critic() -> None:
    """Odena et al., 2017: the critic's second head classifies the real points."""
    network = Labelling()
    objective = Adversarial(Critic(network, (R1(), AuxiliaryLabels())))
    centres = torch.eye(3) * 3
    labels = [torch.randint(3, (32,)) for _ in range(300)]
    batches = [Batch(centres[y] + 0.3 * torch.randn(32, D), y.float()) for y in labels]
    list(fit(generator(), objective, batches, training=Training(Adam(5e-3))))
    found = network.classify(batches[0].x).argmax(-1)
    assert float((found == labels[0]).float().mean()) > 0.9


def test_wgan_with_clipping_and_with_five_turns() -> None:
    """Arjovsky et al., 2017: the constraint follows each of the critic's steps, and each turn sees rows of its own."""
    seen: list[Tensor] = []

    class Watched(MLP):
        def forward(self, context: Any) -> Tensor:
            seen.append(context)
            return super().forward(context)

    critic = Critic(Watched(((D,),), 1, (8,)), (), turns=5, constraint=WeightClipping(0.05))
    steps = train(generator(), Adversarial(critic, Wasserstein()), rows(15))
    assert len(steps) == 3 and steps[-1].state.taken == 15
    assert max(float(p.abs().max()) for p in critic.parameters()) <= 0.05 + 1e-6
    real = [x for x in seen[3:] if not x.requires_grad][::2]
    assert len({float(x[0, 0]) for x in real[:5]}) == 5, "five turns, five batches"
    with pytest.raises(ValueError, match="a step of these players takes 5 batches; found 2"):
        train(generator(), Adversarial(critic, Wasserstein()), rows(2))


def test_turns_may_be_a_schedule() -> None:
    critic = Critic(MLP(((D,),), 1, (8,)), turns=Linear(3.0, 1.0, 2))
    taken = [step.state.taken for step in fit(generator(), Adversarial(critic), rows(6))]
    assert taken == [3, 5, 6]


def test_features_and_moments_are_matched() -> None:
    """Salimans et al., 2016: the generator matches mean features of the critic, which stays the critic's."""
    critic = Critic(nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 1)))
    objective = 0.0 * Adversarial(critic) + MatchMoments(Data(), Sample(), critic.network[:2])
    model = generator()
    assert {slot.name: len(slot.parameters) for slot in players(model, objective)} == {"critic": 4, "model": 8}
    batches = [Batch(torch.randn(64, D) + 3.0) for _ in range(200)]
    train(model, objective, batches)
    assert float(model().sample((500,)).mean()) > 1.5
    mmd = MMD(Data(), Sample())
    with torch.no_grad():
        far = float(MMD(Data(), Sample())(Play(generator(), batches[0])))
        near = float(mmd(Play(StandardNormal((D,)), Batch(torch.randn(64, D)))))
    assert far > 0.3 and abs(near) < 0.1
    train(model, mmd, batches[:5])
    assert mmd.couples and MatchMoments(Data(), Sample()).couples and not Match(Data(), Sample()).couples


# -- what went wrong without a word --------------------------------------------------------------------------------------


def test_real_and_fake_points_do_not_share_batch_statistics() -> None:
    """Joined, a critic with BatchNorm reads the half off the statistics: its margin in its own turn is not the model's."""
    critic = Critic(normed(D, 1), ())
    objective = Adversarial(critic, NonSaturating())
    model = generator()
    play = Play(model, Batch(torch.randn(64, D) + 5.0))
    critic.loss(play)
    again = Play(model, play.batch)
    again.store[Sample()] = play.store[Sample()]
    real, fake = critic.score(objective.real(again)), critic.score(objective.fake(again))
    torch.testing.assert_close(play.terms["margin"], (real.mean() - fake.mean()).detach())


def test_apart_or_joined_is_one_for_a_critic_without_statistics() -> None:
    critic = Critic(MLP(((D,),), 1, (8,)))
    Adversarial(critic)
    model, batch = generator(), rows(1)[0]
    play = Play(model, batch)
    loss = critic.loss(play)
    real, fake = play.store[Data()].x, play.store[Sample()].x.detach()
    x = torch.cat([real, fake]).requires_grad_()
    scores = critic.score(Points(x))
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    a, b = scores.chunk(2)
    squares = slope.square().sum(-1).chunk(2)
    joined = nn.functional.softplus(b - a).mean() + 0.5 * 0.05 * D * (squares[0].mean() + squares[1].mean())
    torch.testing.assert_close(loss, joined)


def test_terms_are_lazy_and_scaled() -> None:
    critic = Critic(MLP(((D,),), 1, (8,)), (R1(1.0, every=4),))
    Adversarial(critic)
    values = []
    for step in range(5):
        torch.manual_seed(3)
        values.append(float(critic.loss(Play(generator(), Batch(torch.ones(8, D)), step))))
    plain = Critic(critic.network, ())
    Adversarial(plain)
    torch.manual_seed(3)
    base = float(plain.loss(Play(generator(), Batch(torch.ones(8, D)))))
    once = Critic(critic.network, (R1(1.0),))
    Adversarial(once)
    torch.manual_seed(3)
    full = float(once.loss(Play(generator(), Batch(torch.ones(8, D)))))
    assert values[1:4] == pytest.approx([base] * 3) and values[0] == values[4] == pytest.approx(
        base + 4 * (full - base), rel=1e-5
    )


@pytest.mark.parametrize("term", [GradientPenalty(), GradientPenalty(one_sided=True), Consistency(), Orthogonality(), R1(), R2()])
def test_every_term_gives_a_finite_gradient(term: Any) -> None:
    critic = Critic(MLP(((D,),), 1, (8,)), (term,))
    Adversarial(critic)
    loss = critic.loss(Play(generator(), rows(1)[0]))
    gradients = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
    assert all(g is None or bool(g.isfinite().all()) for g in gradients) and any(
        g is not None and bool(g.any()) for g in gradients
    )


def test_a_critic_of_many_outputs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one score a row; found \(16, 8\) for 16 rows"):
        train(generator(), Adversarial(Critic(MLP(((D,),), 8, (8,)))), rows(1))


def test_equal_terms_do_not_overwrite_each_other() -> None:
    play = Play(vae(), rows(1)[0])
    total = (Reconstruction() + Reconstruction())(play)
    assert {"Reconstruction()", "Reconstruction() 2"} <= set(play.terms)
    torch.testing.assert_close(play.terms["Reconstruction()"] + play.terms["Reconstruction() 2"], total.detach())


def test_noise_is_shared_by_equal_sources() -> None:
    play = Play(generator(), rows(1)[0])
    assert Noised(Data(), 0.1)(play) is Noised(Data(), 0.1)(play) and Noised(Data(), 0.2)(play) is not Noised(Data(), 0.1)(play)


class Fading(nn.Module):
    """Is told the step before every turn."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.told = nn.Linear(D, 1), []

    def at(self, step: int) -> None:
        self.told.append(step)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_modules_are_told_the_step_before_every_turn() -> None:
    network = Fading()
    train(generator(), Adversarial(Critic(network)), rows(3))
    assert network.told == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("where", ["model", "critic"])
def test_batch_statistics_under_shards_are_refused(where: str) -> None:
    critic = Critic(normed(D, 1) if where == "critic" else MLP(((D,),), 1, (8,)))
    model = Implicit(StandardNormal((Z,)), normed(Z, D), (D,)) if where == "model" else generator()
    with pytest.raises(ValueError, match=r"couples the rows of a batch|moves in every pass"):
        train(model, Adversarial(critic), rows(1), shards=2)
    assert train(model, Adversarial(Critic(critic.network)), rows(1))


def test_power_iterations_under_shards_are_refused() -> None:
    wide = nn.utils.parametrizations.spectral_norm(nn.Linear(D, 8))
    spectral = nn.Sequential(wide, nn.LeakyReLU(), nn.Linear(8, 1))
    with pytest.raises(ValueError, match=r"objective\.critic\.network.* moves in every pass"):
        train(generator(), Adversarial(Critic(spectral)), rows(1), shards=2)


def test_objectives_see_the_model_once() -> None:
    class Looks(MaximumLikelihood):
        def initialise(self, model: nn.Module) -> None:
            looks.append(model)

    looks: list[nn.Module] = []
    model = StandardNormal((D,))
    model.shift = nn.Parameter(torch.zeros(()))
    with pytest.raises(RuntimeError):
        train(model, Looks() + Looks(), rows(2))
    assert looks == [model, model]


def test_a_player_brings_its_own_optimiser() -> None:
    critic = Critic(MLP(((D,),), 1, (8,)), options=Adam(1e-4, (0.0, 0.9)))
    step = train(generator(), Adversarial(critic), rows(1))[-1]
    (group,) = step.state.optimizers["critic"].param_groups
    assert (group["lr"], group["betas"]) == (1e-4, (0.0, 0.9))


def test_a_game_scores_each_set_once() -> None:
    passes: list[int] = []
    network = MLP(((D,),), 1, (8,))
    network.register_forward_hook(lambda *_: passes.append(1))
    critic = Critic(network)
    Adversarial(critic)
    critic.loss(Play(generator(), rows(1)[0]))
    assert len(passes) == 2 and isinstance(critic.play(Play(generator(), rows(1)[0])), Game)
    assert issubclass(Critic, Player)


@pytest.mark.parametrize(
    "payoff", [NonSaturating(), Hinge(), Wasserstein(), LeastSquares(), Relativistic()], ids=lambda p: type(p).__name__
)
def test_real_points_are_scored_where_the_models_loss_depends_on_them(payoff: Payoff) -> None:
    """An ordinary generator does not move the real points: their term is left out, and its gradient is the same."""
    model, critic, calls = generator(), Critic(MLP(((D,),), 1, (8,))), list[int]()
    critic.network.register_forward_hook(lambda *_: calls.append(1))
    objective, play = Adversarial(critic, payoff), Play(model, rows(1)[0])
    torch.manual_seed(0)
    slopes = torch.autograd.grad(objective(play), list(model.parameters()))
    assert len(calls) == (2 if isinstance(payoff, Relativistic) else 1)
    fresh = Play(model, play.batch)
    torch.manual_seed(0)
    whole = payoff.model(critic.score(Data()(fresh)), critic.score(Sample()(fresh)))
    for slope, other in zip(slopes, torch.autograd.grad(whole, list(model.parameters())), strict=True):
        torch.testing.assert_close(slope, other)
