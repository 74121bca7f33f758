r"""What a model's codes say about labels: probes, beside the same probes on the entries, on PCA and on a random encoder.

Linear probe: multinomial logistic regression with a fixed penalty on standardised codes (Alain & Bengio, 2016, arXiv:1610.01644);
neighbours: the majority label of the five nearest training codes. Nothing is tuned, so the numbers differ by their inputs only.
An untrained network is a strong opponent (Saxe et al., 2011): codes that do not beat one of the same size learned nothing for the
label.

A single probe has the binomial error of its test rows. The panel repeats over seeds, which choose the probe's training rows and
the random encoder's weights: `stderr` is over seeds, and the interval adds the test rows' variance :math:`a (1 - a) / n`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.moments import mean_and_scale
from genalloy.core.schema import Number, absent
from genalloy.core.spec import construct, to_spec
from genalloy.data.dataset import Dataset
from genalloy.evaluation.classifier import Body, scale_of
from genalloy.evaluation.features import PixelFeatures, principal
from genalloy.evaluation.intervals import proportion
from genalloy.evaluation.metric import Panel, validate
from genalloy.training.seeding import Stream, seed_all

MOST_ROWS = 10_000
"""Of a single probe's training."""
PENALTY = 1.0
"""scikit-learn's C, the inverse of the penalty; fixed, so that nothing is tuned."""
NEIGHBOURS = 5
FEWEST = 20
SEEDS, PANEL_ROWS, SHARE = 5, 3_000, 0.8
"""Of the panel: repeats, most training rows of a probe, and the share of the training rows that it takes at most."""

Encoder = Callable[[Tensor], Tensor]
"""Rows (N, *E) -> codes (N, *Z)."""
Codes = dict[str, Tensor]
"""{"train", "test"} -> (N, *Z), or labels (N,)."""
Maker = Callable[[Tensor, int], Codes]
"""(training rows to use, seed) -> codes."""
Hits = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(training codes, their labels, test codes, their labels) -> 1 where a test row is named rightly, else 0, (N,)."""


def linear_probe(codes: Codes, labels: dict[str, Tensor], seed: int = 0, most: int = MOST_ROWS) -> Number:
    r"""Test accuracy of logistic regression on codes {"train", "test"} -> (N, \*Z), labels likewise (N,).

    Alain & Bengio, 2016, arXiv:1610.01644. seed: of the training rows, at most `most` of them. Absent without labels, with a
    single class, or for few rows.
    """
    return _probe(_regression, f"logistic regression, C = {PENALTY:g}", codes, labels, seed, most)


def neighbour_probe(codes: Codes, labels: dict[str, Tensor], seed: int = 0, most: int = MOST_ROWS) -> Number:
    """Test accuracy of the five nearest training codes' majority, codes and labels as for `linear_probe`."""
    return _probe(_neighbours, f"{NEIGHBOURS} nearest neighbours", codes, labels, seed, most)


def _probe(fit: Hits, name: str, codes: Codes, labels: dict[str, Tensor], seed: int, most: int) -> Number:
    if not labels:
        return absent("the data have no labels")
    train, test = codes["train"].flatten(1).double(), codes["test"].flatten(1).double()
    bad = validate(FEWEST, {"training codes": train, "test codes": test})
    if bad:
        return bad
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:most]
    if len(labels["train"][rows].unique()) < 2:
        return absent("the training labels hold a single class")
    centre, spread = mean_and_scale(train[rows])
    hits = fit((train[rows] - centre) / spread, labels["train"][rows], (test - centre) / spread, labels["test"])
    how = f"{name}, {train.shape[1]} standardised codes, {len(rows):,} training rows"
    return proportion(hits.mean().item(), len(test), how)


def _regression(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> Tensor:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # a penalised probe that is stopped early is still a probe; the limit is the same for every input
        warnings.simplefilter("ignore", ConvergenceWarning)
        # single precision halves the time; codes are standardised
        probe = LogisticRegression(C=PENALTY, max_iter=300).fit(train.float().numpy(), labels.numpy())
    return torch.from_numpy(probe.predict(test.float().numpy()) == truth.numpy()).double()


def _neighbours(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> Tensor:
    """A tie goes to the smallest label."""
    nearest = [torch.cdist(chunk, train).topk(min(NEIGHBOURS, len(train)), largest=False).indices for chunk in test.split(1000)]
    return (labels[torch.cat(nearest)].mode(1).values == truth).double()


# -- one number ----------------------------------------------------------------------------------------------------


def probe_references(dataset: Dataset, seed: int = 0) -> Panel:
    """The linear probe on "pixels" and on "pca": what codes must beat."""
    makers = {"pixels": PixelFeatures(), "pca": principal(dataset.space)}
    parts = {"train": dataset.train, "test": dataset.test}
    result: Panel = {}
    for name, features in makers.items():
        features.fit(dataset.train)
        result[name] = linear_probe({part: features(x) for part, x in parts.items()}, dataset.labels, seed)
    return result


def probe(dataset: Dataset, encode: Encoder, seed: int = 0) -> Number:
    r"""The linear probe on a model's frozen codes: encode (N, \*E) -> (N, \*Z), called in chunks without gradients."""
    return linear_probe(_codes(dataset, encode), dataset.labels, seed)


@torch.no_grad()
def _codes(dataset: Dataset, encode: Encoder) -> Codes:
    return {
        part: torch.cat([encode(chunk).flatten(1).cpu() for chunk in torch.split(x, 1000)])
        for part, x in {"train": dataset.train, "test": dataset.test}.items()
    }


# -- against references, over seeds --------------------------------------------------------------------------------


def untrained(model: nn.Module, seed: int, x: Tensor | None = None) -> nn.Module:
    r"""A model of the same composition with fresh weights, in eval mode: the random encoder of the model's own kind.

    Built again from its spec under the seed; `x` (N, \*E) goes to the data-dependent initialisation where there is one.
    Raises ValueError where the composition cannot be written as a spec.
    """
    spec, tensors = to_spec(model)
    with Stream(model):
        seed_all(seed, -5)
        twin: Any = construct(spec, tensors)
        if x is not None and hasattr(twin, "initialise"):
            with torch.no_grad():
                twin.initialise(x, None)
    return twin.eval()


def random_encoder(dataset: Dataset, size: int, seed: int) -> Encoder:
    """An untrained network with `size` outputs: two convolutions and a dense layer for pictures, else two dense layers."""
    with Stream(torch.float32):
        seed_all(seed, -5)
        return Body(dataset.space.shape, size, *scale_of(dataset.train)).eval()


def representation_panel(
    dataset: Dataset, encode: Encoder, random: Callable[[int], Encoder] | None = None, seed: int = 0, seeds: int = SEEDS
) -> Panel:
    r"""Accuracy, mean over `seeds` seeds, of "codes", "pixels", "pca", "random encoder", and each with ", neighbours".

    encode: the model's codes, (N, \*E) -> (N, \*Z). PCA has at most as many components as there are codes. random: seed -> an
    untrained encoder, for instance ``lambda s: partial(encode, untrained(model, s))``; by default `random_encoder` with as many
    codes.
    """
    own = _codes(dataset, encode)
    size = own["train"].shape[1]
    parts = {"train": dataset.train, "test": dataset.test}
    pca = principal(dataset.space, size).fit(dataset.train)
    fixed = {"codes": own, "pixels": parts, "pca": {part: pca(x) for part, x in parts.items()}}
    makers: dict[str, Maker] = {name: partial(_picked, codes) for name, codes in fixed.items()}
    makers["random encoder"] = partial(_fresh, dataset, random or partial(random_encoder, dataset, size))
    panel: Panel = {}
    for name, codes in makers.items():
        panel[name], panel[f"{name}, neighbours"] = _over_seeds(dataset, codes, range(seed, seed + seeds))
    return panel


def _picked(codes: Codes, rows: Tensor, seed: int) -> Codes:
    return {**codes, "train": codes["train"][rows]}


def _fresh(dataset: Dataset, random: Callable[[int], Encoder], rows: Tensor, seed: int) -> Codes:
    """Only the rows that the probe sees are encoded: every seed has an encoder of its own."""
    return _codes(replace(dataset, train=dataset.train[rows]), random(seed))


def _over_seeds(dataset: Dataset, codes: Maker, seeds: range) -> tuple[Number, Number]:
    """The linear and the neighbour probe."""
    linear, near, n = list[Number](), list[Number](), len(dataset.train)
    for seed in seeds:
        rows = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: min(PANEL_ROWS, max(1, int(SHARE * n)))]
        labels = {part: y[rows] if part == "train" else y for part, y in dataset.labels.items()}
        by_part = codes(rows, seed)
        linear.append(linear_probe(by_part, labels, seed))
        near.append(neighbour_probe(by_part, labels, seed))
    return _together(linear), _together(near)


def _together(results: list[Number]) -> Number:
    """Mean over seeds, or the first reason for a missing one."""
    known = [r for r in results if not r.missing]
    if len(known) < len(results) or not known:
        return next((r for r in results if r.missing), absent("no seed was asked for"))
    values = torch.tensor([r.value for r in known], dtype=torch.float64)
    mean, n, count = values.mean().item(), known[0].n, len(known)
    error = values.std().item() / math.sqrt(count) if count > 1 else None
    own = math.sqrt(mean * (1 - mean) / (n or 1))
    both = 2 * math.hypot(error or 0.0, own)
    how = f"{known[0].how}; mean over {count} seeds, stderr over seeds; the test rows' own is {own:.2g}"
    return Number(mean, error, n, how, max(0.0, mean - both), min(1.0, mean + both))
