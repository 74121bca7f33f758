"""The loop: resuming, random streams, owners, shards, rates, and numbers that are not finite."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from torch import nn
from toy_game import OPTIONS, PACE, Fool, Judge, data, flow, game, last, numbers, some_batches

from genalloy.core.batch import Batch
from genalloy.core.errors import Diverged
from genalloy.core.evidence import Unavailable
from genalloy.core.schedules import Linear
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.adding import additive
from genalloy.laws.every import every_part
from genalloy.laws.ownership import one_owner, rivals_leave_model_alone
from genalloy.laws.subject import perturb_parameters
from genalloy.networks.mlp import MLP
from genalloy.objectives.adversarial import Adversarial, Critic
from genalloy.objectives.bounds import ELBO, ImportanceWeightedBound, PerGroup
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Objective, Play, Turn
from genalloy.training.checkpoint import Pair
from genalloy.training.devices import resolve_device
from genalloy.training.finite import not_finite
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.training.seeding import mix
from genalloy.training.slots import players
from genalloy.training.state import State

PARTS = {listed.name: listed for listed in every_part()}


def through_bytes(model, objective, state):
    """What a resumed run starts from: everything rebuilt from spec and tensors."""
    spec, tensors = to_spec(Pair(model, objective))
    pair = from_spec(spec, {k: v.clone() for k, v in tensors.items()})
    stored = {k: v.clone() for k, v in state.tensors().items()}
    return pair.model, pair.objective, State.from_tensors(state.step, stored, state.taken)


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_resuming_gives_bit_identical_numbers(cut: int) -> None:
    model, objective = game()
    step = last(fit(model, objective, some_batches(0, 12, PACE), training=OPTIONS))
    whole, average = numbers(model, objective), torch.cat([a.reshape(-1) for a in step.state.average.values()])
    model, objective = game()
    step = last(fit(model, objective, some_batches(0, cut, PACE), training=OPTIONS))
    model, objective, state = through_bytes(model, objective, step.state)
    torch.manual_seed(999)
    step = last(fit(model, objective, some_batches(cut, 12, PACE), training=OPTIONS, state=state))
    assert step.index == 11
    assert torch.equal(numbers(model, objective), whole)
    assert torch.equal(torch.cat([a.reshape(-1) for a in step.state.average.values()]), average)


def test_every_piece_of_state_matters_for_resuming() -> None:
    """Leaving any piece out gives other numbers: the test above can fail."""
    model, objective = game()
    step = last(fit(model, objective, some_batches(0, 12, PACE), training=OPTIONS))
    whole = numbers(model, objective)
    for drop in ("optimizer/model", "optimizer/judge", "average", "step"):
        model, objective = game()
        step = last(fit(model, objective, some_batches(0, 5, PACE), training=OPTIONS))
        model, objective, state = through_bytes(model, objective, step.state)
        state.stored = {k: v for k, v in state.stored.items() if not k.startswith(drop)}
        state.step = 0 if drop == "step" else state.step
        step = last(fit(model, objective, some_batches(5, 12, PACE), training=OPTIONS, state=state))
        same = torch.equal(numbers(model, objective), whole)
        assert same == (drop == "average"), drop


def test_the_seed_decides_and_the_callers_stream_is_untouched() -> None:
    results = []
    for before, seed in ((1, 5), (2, 5), (1, 6)):
        model, objective = game()
        torch.manual_seed(before)
        kept = torch.get_rng_state()
        for _ in fit(model, objective, some_batches(0, 3, PACE), training=Training(seed=seed)):
            assert torch.equal(torch.get_rng_state(), kept), "the caller's stream is back at every yield"
        assert torch.equal(torch.get_rng_state(), kept)
        results.append(numbers(model, objective))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_what_the_caller_does_between_steps_changes_nothing() -> None:
    results = []
    for meddle in (False, True):
        model, objective = game()
        for _ in fit(model, objective, some_batches(0, 4, PACE), training=OPTIONS):
            if meddle:
                with torch.no_grad():
                    torch.randn(100)
                    model().sample((10,))
        results.append(numbers(model, objective))
    assert torch.equal(*results)


def test_the_stream_is_given_back_after_an_error() -> None:
    model, objective = game()
    kept = torch.get_rng_state()
    with pytest.raises(Diverged):
        list(fit(model, objective, [Batch(torch.full((4, 2), math.inf))] * PACE))
    assert torch.equal(torch.get_rng_state(), kept)


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_add_up_weighted_by_rows(shards: int) -> None:
    """Without noise in the loss, any number of shards is the same step, uneven ones included."""
    results = []
    for count in (1, shards):
        torch.manual_seed(0)
        model = flow()
        step = last(fit(model, MaximumLikelihood(), some_batches(0, 5), training=Training(shards=count, clip=0.5)))
        results.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
    assert step.index == 4


def test_more_shards_than_rows_and_coupled_objectives() -> None:
    torch.manual_seed(0)
    model = flow()
    before = numbers(model, MaximumLikelihood())
    for _ in fit(model, MaximumLikelihood(), [Batch(data()[:2])], training=Training(shards=5)):
        pass
    assert not torch.equal(before, numbers(model, MaximumLikelihood()))
    vae = PARTS["vae"].make((2,), ())
    with pytest.raises(ValueError, match="couples the rows"):
        list(fit(vae, ELBO(free_bits=PerGroup(0.1)), [Batch(data())], training=Training(shards=2)))


def test_float_rates_and_schedules_scale_the_first_step() -> None:
    moved = []
    for rate in (1.0, 0.1, Linear(0.1, 1.0, 10)):
        torch.manual_seed(0)
        model = flow()
        before = numbers(model, model)
        for _ in fit(model, MaximumLikelihood(), some_batches(0, 1), training=Training(Adam(1e-3), rate=rate)):
            pass
        moved.append(float((numbers(model, model) - before).abs().max()))
    assert moved[1] == pytest.approx(0.1 * moved[0], rel=1e-2)
    assert moved[2] == pytest.approx(moved[1], rel=1e-3)


class Explodes(Objective):
    """A finite term that turns NaN at a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def forward(self, play):
        weight = next(play.model.parameters())
        return (weight * (math.nan if play.step >= self.at else 0.0)).sum()


def test_a_number_that_is_not_finite_stops_and_is_named() -> None:
    torch.manual_seed(0)
    model, objective = flow(), MaximumLikelihood() + Explodes(2)
    seen = []
    words = r"step 2: the term Explodes\(at=2\) of player 'model'.*layers\.0\.transform\.network"
    with pytest.raises(Diverged, match=words) as caught:
        seen += ((step.index, numbers(model, objective)) for step in fit(model, objective, some_batches(0, 5, PACE)))
    assert [i for i, _ in seen] == [0, 1]
    assert torch.equal(numbers(model, objective), seen[-1][1]), "no parameter was moved by it"
    assert "last good checkpoint" in str(caught.value)


def test_one_owner_each() -> None:
    model, objective = game()
    one_owner(model, objective)
    names = [player.name for player in players(model, objective)]
    assert names == ["judge", "model"]
    network = MLP(((2,),), 1, (8,))
    shared = MaximumLikelihood() + Fool(Judge(network)) + Fool(Judge(network))
    with pytest.raises(ValueError, match=r"objective\.terms\.1.*owned by judge and judge1; give every player"):
        list(fit(model, shared, some_batches(0, 1)))
    critic = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="is owned by"):
        players(model, Adversarial(Critic(critic)) + Adversarial(Critic(critic)))


def test_rivals_leave_the_model_alone() -> None:
    torch.manual_seed(0)
    critic = Critic(MLP(((2,),), 1, (8,)))
    for model, objective in (game(), (flow(), Adversarial(critic)), (PARTS["implicit"].make((2,), ()), Adversarial(critic))):
        rivals_leave_model_alone(model, objective, some_batches(0, 1)[0])


class Trespasser(Judge):
    """Moves a weight of the model in its own turn."""

    def loss(self, play):
        with torch.no_grad():
            next(play.model.parameters()).add_(0.1)
        return super().loss(play)


class Normed(nn.Module):
    """Statistics that move at every call in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = flow()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, context=None):
        self.calls += 1
        return self.inner(context)


def test_trespassing_is_caught_and_statistics_stand_still() -> None:
    torch.manual_seed(0)
    batch = some_batches(0, 1)[0]
    with pytest.raises(AssertionError, match="rival's turn moved the model"):
        rivals_leave_model_alone(flow(), Fool(Trespasser(MLP(((2,),), 1, (8,)))), batch)
    model = Normed()
    objective = MaximumLikelihood() + Fool(Judge(MLP(((2,),), 1, (8,)), turns=3))
    rivals_leave_model_alone(model, objective, batch)
    for _ in fit(model, objective, [batch] * 6):
        pass
    assert float(model.calls) == 2, "once a step: the judge's three turns and the check before step 0 do not count"
    assert float(objective.terms[1].judge.calls) == 6


def test_scaling_an_objective_leaves_its_rivals_problem() -> None:
    first = []
    for weight in (0.001, 10.0):
        torch.manual_seed(0)
        model, judge = flow(), Judge(MLP(((2,),), 1, (8,)), turns=1)
        for step in fit(model, weight * Fool(judge), some_batches(0, 1)):
            weights = torch.cat([p.detach().reshape(-1) for p in judge.network.parameters()])
            first.append((step.losses["judge"], weights, step.losses["model"]))
    assert first[0][0] == first[1][0] and torch.equal(first[0][1], first[1][1])
    assert first[1][2] == pytest.approx(1e4 * first[0][2], rel=1e-4)


def test_objectives_add_term_by_term() -> None:
    torch.manual_seed(0)
    batch = Batch(data()[:16])
    model, objective = game()
    additive(model, MaximumLikelihood(), Fool(objective.terms[1].term.judge), batch)
    vae = perturb_parameters(PARTS["vae"].make((2,), ()))
    for a, b in ((ELBO(beta=0.5), ImportanceWeightedBound(4)), (ELBO(), ELBO(beta=4.0)), (MaximumLikelihood(), ELBO(samples=3))):
        additive(vae, a, b, batch)
    additive(flow(), MaximumLikelihood(), Adversarial(Critic(MLP(((2,),), 1, (8,)))), batch)


def test_terms_share_one_trace_and_are_noted() -> None:
    vae = perturb_parameters(PARTS["vae"].make((2,), ()))
    play = Play(vae, Batch(data()[:8]))
    total = ELBO() + 3.0 * ELBO(beta=1.0)
    value = total(play).detach()
    assert float(value) == pytest.approx(4 * float(play.terms["ELBO()"]), rel=1e-5)


def test_turns_own_their_part() -> None:
    vae = PARTS["vae"].make((2,), ())
    objective = ELBO() + Turn(ELBO(), "posterior", turns=2)
    one_owner(vae, objective)
    by_name = {p.name: {id(q) for q in p.parameters} for p in players(vae, objective)}
    assert by_name["turn"] == {id(p) for p in vae.posterior.parameters()}
    assert by_name["model"] == {id(p) for p in vae.likelihood.parameters()}
    losses = [s.losses for s in fit(vae, objective, [Batch(data())] * 2)]
    assert set(losses[0]) == {"turn", "model"}


def test_what_a_model_lacks_is_said_before_step_0() -> None:
    with pytest.raises(Unavailable, match=r"trace\(x, k\) is needed; FlowDistribution has none. It has: density, draw, encode"):
        list(fit(flow(), ELBO(), some_batches(0, 1)))
    with pytest.raises(Unavailable, match="no density"):
        list(fit(PARTS["implicit"].make((2,), ()), MaximumLikelihood(), some_batches(0, 1)))
    vae = PARTS["vae"].make((2,), ())
    vae.posterior = PARTS["gaussian mixture"].make((2,), ((2,),))
    with pytest.raises(Unavailable, match="carry no gradient"):
        list(fit(vae, ELBO(), some_batches(0, 1)))


def test_averaged_weights_are_swapped_in_and_out() -> None:
    model, objective = game()
    step = last(fit(model, objective, some_batches(0, 6, PACE), training=Training(Adam(1e-2), ema=0.5)))
    before = copy.deepcopy(list(model.parameters()))
    with step.state.averaged_weights():
        assert all(torch.equal(p, step.state.average[name]) for name, p in step.state.averaged.items())
        assert any(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    recomputed = torch.zeros(1)
    for n in range(1, 4):  # the documented warm-up, on constants
        recomputed = recomputed.lerp(torch.ones(1), 1 - min(0.5, (1 + n) / (10 + n)))
    assert 0 < float(recomputed) < 1


def test_seeds_mix_without_collisions() -> None:
    seeds = {mix(a, b, c, d) for a in range(6) for b in range(20) for c in (-3, -1, 0, 1) for d in range(4)}
    assert len(seeds) == 6 * 20 * 4 * 4
    assert all(0 <= s < 2**63 for s in seeds)
    assert StandardNormal((1,))().sample((1,)).shape == (1, 1)


@pytest.mark.parametrize(("value", "kind"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_a_weight_that_is_not_finite_is_named_itself(value: float, kind: str) -> None:
    """Not the loss or a gradient elsewhere, which it only spoils."""
    torch.manual_seed(0)
    model = flow()
    steps = fit(model, MaximumLikelihood(), some_batches(0, 5))
    next(steps), next(steps)
    name, last = list(model.named_parameters())[-1]
    last.data.view(-1)[:1] = value
    with pytest.raises(Diverged, match=f"step 2: parameter {re.escape(name)} holds 1 {kind} of {last.numel()} values"):
        next(steps)


def test_weights_and_buffers_are_told_apart() -> None:
    layer = torch.nn.BatchNorm1d(3)
    assert not_finite(layer) is None
    layer.running_mean.fill_(math.inf)
    assert not_finite(layer) is None, "masks hold infinities"
    layer.running_var[1] = math.nan
    assert not_finite(layer) == "buffer running_var holds 1 NaN of 3 values"
    layer.weight.data[:2] = math.nan
    assert not_finite(layer) == "parameter weight holds 2 NaN of 3 values"


def test_devices_by_name() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("banana", "meta", "", "cuda:9"):
        with pytest.raises(ValueError, match=f"found device '{name}', expected one that this machine has: auto, cpu"):
            resolve_device(name)
