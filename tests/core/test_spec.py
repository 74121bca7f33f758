"""What can be written down is rebuilt exactly; what cannot is refused with its place."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file

from genalloy.core.batch import Batch
from genalloy.core.distribution import density
from genalloy.core.part import Conditional, Part
from genalloy.core.schedules import Linear
from genalloy.core.spec import Foreign, from_spec, to_spec
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.every import every_part
from genalloy.laws.storing import keeps
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.models.mixture import Mixture
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO, PerGroup
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.checkpoint import Pair, load, save
from genalloy.training.fit import fit
from genalloy.transforms.observation import Standardise

PARTS = {listed.name: listed for listed in every_part()}


class Callback(Part):
    """Keeps whatever it is given."""

    def __init__(self, thing: object) -> None:
        super().__init__()
        self.thing = thing

    def forward(self, context=None):
        return StandardNormal((1,))()


@dataclass
class Stray:
    x: int = 0


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (lambda step: 0.1, r"model\.thing is a function"),
        (Stray(), r"model\.thing is a Stray"),
        ([Stray()], r"model\.thing\[0\]"),
        (torch.nn.TransformerEncoderLayer(4, 1), "outside the allowed list.*of your own"),
        (torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)), "outside the allowed list"),
        (object, "is a type"),
        ({(1, 2): 3}, "has a tuple as a key"),
        (2**63, "integer of 19 digits"),
    ],
)
def test_what_cannot_be_stored_is_named(thing: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_spec(Callback(thing))


def test_foreign_needs_trust_and_torch_names_are_checked(tmp_path) -> None:
    part = Callback(Foreign("torch.nn:Bilinear", {"in1_features": 2, "in2_features": 2, "out_features": 1}))
    path = save(part, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"trust=\['torch.nn:Bilinear'\]"):
        load(path)
    loaded = load(path, trust=["torch.nn:Bilinear"])
    torch.testing.assert_close(loaded.thing.inner.weight, part.thing.inner.weight, rtol=0, atol=0)
    spec, tensors = to_spec(Callback(torch.nn.Linear(1, 1)))
    spec["nodes"][1]["class"] = "torch.nn:TransformerEncoderLayer"
    with pytest.raises(ValueError, match="not in the allowed list"):
        from_spec(spec, tensors)
    spec["nodes"][1]["class"] = "os:system"
    with pytest.raises(ValueError, match="not imported"):
        from_spec(spec, tensors)


def test_a_finished_runs_folder_is_its_model(tmp_path) -> None:
    save(torch.nn.Linear(2, 3), tmp_path / "model.safetensors")
    assert load(tmp_path).out_features == 3


def test_reading_says_what_is_wrong_with_a_file(tmp_path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(ValueError, match="cut short"):
        load(tmp_path / "cut.safetensors")
    save_file({"a": torch.zeros(1)}, str(tmp_path / "bare.safetensors"))
    with pytest.raises(ValueError, match="no genalloy spec"):
        load(tmp_path / "bare.safetensors")


def test_shared_parts_are_stored_once_stay_shared_and_train_on() -> None:
    torch.manual_seed(0)
    shared = Conditional(Gaussian(), MLP(((2,),), 4, (8,)), (2,), ((2,),))
    model = LatentVariable(StandardNormal((2,)), shared, shared)
    x = torch.randn(16, 2)
    loaded = keeps(model, lambda m: _density(m, x))
    assert loaded.likelihood is loaded.posterior
    assert len(to_spec(model)[1]) == len(list(shared.parameters()))
    for part in (model, loaded):
        for _ in fit(part, MaximumLikelihood(), [Batch(x)] * 3):
            pass
    torch.testing.assert_close(_density(model, x), _density(loaded, x), rtol=0, atol=0)


def _density(model, x):
    torch.manual_seed(1)
    return density(model(), x).value.detach()


def test_tied_weights_stay_tied() -> None:
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    second.weight = first.weight
    loaded = keeps(Callback(torch.nn.Sequential(first, second)), lambda m: m.thing(torch.ones(1, 2)).detach())
    assert loaded.thing[0].weight is loaded.thing[1].weight
    assert loaded.thing[0].bias is not loaded.thing[1].bias


def test_parts_that_were_exchanged_after_construction_are_the_ones_stored() -> None:
    model = LatentVariable(StandardNormal((2,)), *(Conditional(Gaussian(), MLP(((2,),), 4, ()), (2,), ((2,),)) for _ in range(2)))
    model.prior = Flow(StandardNormal((2,)), [Standardise(torch.zeros(2), torch.full((2,), 3.0))], (2,))
    loaded = keeps(model, lambda m: m.prior.layers[0].transform.scale)
    assert type(loaded.prior) is Flow


def test_precision_frozen_weights_and_objectives_survive() -> None:
    part = PARTS["maf"].build().double()
    next(part.parameters()).requires_grad_(False)
    loaded = keeps(part, lambda p: next(p.parameters()))
    assert next(loaded.parameters()).dtype == torch.float64
    pair = Pair(part, MaximumLikelihood() + 0.5 * ELBO(beta=Linear(0.0, 1.0, 10), free_bits=PerGroup(0.25)))
    twin = keeps(pair, lambda p: next(p.parameters()))
    inside = "beta=Linear(start=0.0, end=1.0, steps=10), free_bits=PerGroup(nats=0.25)"
    assert repr(twin.objective) == f"MaximumLikelihood() + 0.5 * ELBO({inside})"


def test_models_read_as_compositions() -> None:
    model = Mixture([StandardNormal((2,)), Flow(StandardNormal((2,)), [Standardise(torch.zeros(2), torch.ones(2))], (2,))])
    text = repr(model)
    assert "Mixture(" in text and "Flow(" in text and "base=StandardNormal(event_shape=(2,))" in text
    assert "Standardise(shift=tensor(2,), scale=tensor(2,))" in text
