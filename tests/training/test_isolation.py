"""The global random state and the default dtype: lent to one piece of work at a time, and back as they were afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import genalloy
from genalloy import Alloy, density, draw
from genalloy.core.isolation import Stream
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.recipes.registry import all_recipes
from genalloy.runs.create import create_run
from genalloy.runs.score import sample, score
from genalloy.runs.settings import RunSettings
from genalloy.training.seeding import seed_all, seed_of

SMALL = {"layers": 2, "width": 16}


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# -- threads -------------------------------------------------------------------------------------------------------


def test_four_threads_give_what_one_gives_and_leave_the_callers_stream() -> None:
    rows = np.random.default_rng(0).normal(size=(120, 3))
    shared = Alloy("vae", steps=3, settings={"hidden": 16}).fit(rows)

    def work(seed: int) -> list[np.ndarray]:
        flow = Alloy("maf", steps=6, settings=SMALL, random_state=seed).fit(rows)
        drawn, scored = shared.sample(4, random_state=seed), shared.density(rows[:9]).value.numpy()
        return [flow.sample(4), drawn, scored, flow.score_samples(rows[:3])]

    alone = [work(seed) for seed in range(6)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(6)))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_loop_holds_nothing_between_its_steps() -> None:
    """Another thread works while a fit is suspended, and a fit that is dropped half-way blocks nobody."""
    rows = np.random.default_rng(0).normal(size=(60, 2))
    steps = Alloy("maf", steps=5, settings=SMALL).iter_fit(rows)
    next(steps)
    other = threading.Thread(target=lambda: Alloy("maf", steps=1, settings=SMALL).fit(rows).sample(2), daemon=True)
    other.start()
    other.join(20)
    assert not other.is_alive()
    del steps
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: Alloy("maf", steps=1, settings=SMALL).fit(rows).sample(2)).result(20).shape == (2, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_process_forked_from_another_threads_region_is_not_blocked() -> None:
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Stream():
            inside.set()
            done.wait(20)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    inside.wait(20)
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # kills the child where it waits for ever
        with Stream():
            os._exit(0)
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _fail_inside() -> None:
    with Stream(torch.float64):
        seed_all(1)
        outer = torch.rand(2)
        with Stream(torch.float32):
            seed_all(1)
            assert torch.equal(torch.rand(2, dtype=torch.float64), outer) and torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float64
        raise KeyError


def test_streams_nest_and_a_failure_inside_gives_everything_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(KeyError):
        _fail_inside()
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.rand(3), expected)
    free = threading.Thread(target=lambda: Stream().__enter__().leave(), daemon=True)
    free.start()
    free.join(5)
    assert not free.is_alive()


def test_loading_does_not_move_the_callers_stream(tmp_path) -> None:
    flow = Alloy("maf", steps=1, settings=SMALL).fit(np.random.default_rng(0).normal(size=(60, 2)))
    genalloy.save(flow.model_, tmp_path / "m.safetensors")
    before = torch.get_rng_state()
    genalloy.load(tmp_path / "m.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


# -- default dtype -------------------------------------------------------------------------------------------------


def trained(name: str, datasets: list[Dataset]) -> tuple[nn.Module, Dataset]:
    """Two steps of a recipe on the first of the data sets that it takes."""
    for dataset in datasets:
        try:
            trainer = create_run(RunSettings(name, "array", steps=2, device="cpu"), None, dataset)
        except ValueError:
            continue
        for _ in trainer.run():
            pass
        return trainer.model, dataset
    raise AssertionError(f"{name} took none of the data sets")


def outcome(name: str) -> list[torch.Tensor]:
    """Weights, samples and densities of a recipe; data of several kinds, as every recipe takes one of them."""
    rng = np.random.default_rng(0)
    sounds = rng.integers(0, 256, size=(40, 24)).astype(np.uint8)
    labelled = load_data((rng.normal(size=(60, 3)), np.arange(60) % 2))
    model, dataset = trained(name, [labelled, load_data("digits", limit=24), load_data(list(sounds))])
    x, evidence = sample(model, 6), score(model, dataset.test[:4])
    with torch.no_grad():
        torch.manual_seed(0)
        direct, own = draw(model(), (3,))
        values = [density(model(), direct).value, own.value]
    values = [v for v in (evidence.value, *values) if not v.isnan().all()]  # no density: NaN of any dtype
    return [*model.state_dict().values(), x, direct, *values]


@pytest.mark.parametrize("name", list(all_recipes()))
def test_a_recipe_does_not_depend_on_the_default_dtype(name: str) -> None:
    """float64 as the default gives the same float32 model, samples and densities, through the runs and directly."""
    single = outcome(name)
    torch.set_default_dtype(torch.float64)
    try:
        double = outcome(name)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(a.dtype == b.dtype for a, b in zip(single, double, strict=True))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in zip(single, double, strict=True))


def test_a_models_file_is_read_alike_under_another_default(double: None, tmp_path) -> None:
    rows = np.random.default_rng(0).normal(size=(80, 3))
    flow = Alloy("maf", steps=3, settings=SMALL).fit(rows)
    flow.save(tmp_path / "flow.safetensors")
    torch.set_default_dtype(torch.float32)
    assert np.array_equal(Alloy.load(tmp_path / "flow.safetensors").score_samples(rows), flow.score_samples(rows))


# -- seeds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.default_rng])
def test_a_generator_moves_on_by_one_draw(kind) -> None:
    one, other = kind(3), kind(3)
    assert [seed_of(one), seed_of(one)] == [seed_of(other), seed_of(other)]
    assert seed_of(one) != seed_of(kind(3))


def test_seeds_of_integers_are_themselves_and_of_none_are_fresh() -> None:
    assert [seed_of(s) for s in (0, 7, np.int32(7), np.uint64(9), 2**32 - 1)] == [0, 7, 7, 9, 2**32 - 1]
    assert len({seed_of(None) for _ in range(5)}) == 5


WRONG = (1.5, 3.0, "a", "0", True, np.bool_(True), -1, np.int64(-2), 2**32, [0], np.zeros((40, 2)), object())


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_random_state_is_refused_in_one_line(wrong) -> None:
    with pytest.raises(ValueError, match=r"random_state is .+; expected None") as refusal:
        seed_of(wrong)
    assert "\n" not in str(refusal.value)
