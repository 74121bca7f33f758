r"""What a latent-variable model does with its codes, on test rows.

With :math:`q(z) = \frac1N \sum_n q(z|x_n)` over the rows (Hoffman & Johnson, 2016),

.. math:: \frac1N \sum_n KL(q(z|x_n) \| p(z)) = I_q(n; z) + KL(q(z) \| p(z)),

both terms estimated from one code z_n ~ q(z|x_n) for each row, all :math:`\log q(z_n|x_m)` computed in blocks. I_q cannot exceed
log N: near that ceiling it is a lower bound of the information about x, and KL(q(z)||p(z)) an upper bound.

Active units are the codes with :math:`Var_x E_q[z|x] > 0.01` (Burda, Grosse & Salakhutdinov, 2016). The amortisation gap is what
the bound gains when mean and log-scale of a Gaussian q are refined for each row, starting from the encoder's (Cremer, Li &
Duvenaud, 2018). A decoder that ignores z loses nothing when the codes are exchanged between rows.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.batch import Batch
from genalloy.core.capabilities import Reached
from genalloy.core.contexts import Context
from genalloy.core.distribution import density
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.core.observations import each, repeat
from genalloy.core.part import Part, evaluating
from genalloy.core.schedules import Linear
from genalloy.core.schema import Number, absent
from genalloy.core.traces import Term, Trace, traced
from genalloy.estimators.importance_weighted import importance_curve
from genalloy.evaluation.metric import FEWEST, Panel, mean_of, validate
from genalloy.heads.gaussian import GaussianDistribution
from genalloy.models.latent import LatentDistribution, LatentVariable
from genalloy.objectives.bounds import ELBO
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.training.seeding import Stream, seed_all

MOST_ROWS = 2000
REFINED_ROWS = 200
CHUNK = 250
PAIR_FLOATS = 2**22
ACTIVE = 0.01
NAMES = (
    "elbo", "importance_weighted", "kl", "mutual_information", "marginal_kl", "active_units", "shuffled_codes", "amortisation_gap"
)  # fmt: skip


@torch.no_grad()
def latent_panel(
    model: nn.Module, x: Any, seed: int = 0, samples: int = 100, refine: int = 200, context: Context = None
) -> Panel:
    r"""Diagnostics of a latent model, behind fixed preprocessing or not, on test rows x (N, \*E) or records; see the module.

    samples: k of the importance-weighted bound. refine: steps for the amortisation gap. context: of every row, for a conditional
    model. More than 2,000 rows are subsampled by the seed. `kl` is the sum over all groups of latents, each named in `how`.
    Every entry is absent, with the reason, for a model without latent variables or with too few rows.
    """
    bad = validate(FEWEST, {"test rows": x})
    if bad is not None:
        return dict.fromkeys(NAMES, bad)
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]
    batch = Batch(x, context).rows(chosen)
    with evaluating(model), Stream(model):
        seed_all(seed, -5)
        first, refined = batch.rows(slice(0, 1)), batch.rows(slice(0, REFINED_ROWS))
        if traced(model(first.context), first.x) is None:
            reason = absent(f"not a latent-variable model: {type(model).__name__} has no trace(x, k)")
            return dict.fromkeys(NAMES, reason)
        walk = _walked(model, batch)
        panel = {
            "elbo": mean_of(walk.rows.bound, f"{walk.bound.kind.value}; {walk.bound.how}"),
            "importance_weighted": _importance(model(batch.context), batch.x, samples),
            **_information(walk, context is not None),
            "active_units": _active(walk.rows.means),
            "shuffled_codes": _shuffled(walk.rows),
            "amortisation_gap": _amortisation(model(refined.context), refined.x, seed, refine),
        }
    return {name: panel[name] for name in NAMES}


class _Columns(NamedTuple):
    r"""One code z (N, \*Z) a row; means (N, 2, Z), see `_means`; kl (N, groups); else (N,). shuffled: NaN without decode."""

    bound: Tensor
    log_q: Tensor
    log_p: Tensor
    matched: Tensor
    shuffled: Tensor
    means: Tensor
    z: Tensor
    kl: Tensor


class _Walk(NamedTuple):
    """Columns of all rows, encodings by chunk, the label of the bound, and the terms of the last chunk for names and labels."""

    rows: _Columns
    encodings: list[Any]
    bound: Evidence
    terms: tuple[Term, ...]


def _walked(model: nn.Module, batch: Batch) -> _Walk:
    """One trace of every row, in chunks; rows come in random order, so that neighbours may exchange codes."""
    columns, encodings = [], []
    for start in range(0, len(batch), CHUNK):
        piece = batch.rows(slice(start, start + CHUNK))
        inside: Any = traced(model(piece.context), piece.x)
        encodings.append(inside.distribution.infer(inside.x))
        trace = inside.distribution.trace(inside.x, 1, encodings[-1])
        bound = _single(trace, inside)
        columns.append(_columns(inside, trace, bound.value, _means(inside, encodings[-1])))
    rows = _Columns(*(torch.cat(column) for column in zip(*columns, strict=True)))
    return _Walk(rows, encodings, bound, trace.terms)


def _columns(inside: Reached, trace: Trace, bound: Tensor, means: Tensor) -> _Columns:
    term, matched = trace.terms[0], trace.likelihood.value[0]
    kl = torch.stack([(t.log_posterior.value - t.log_prior.value)[0] for t in trace.terms], -1)
    # log p(z) of the first group: where its prior is a latent model, the bound that this model's own groups make
    above = [t for t in trace.terms[1:] if t.name.startswith(f"{term.name}/")]
    log_p = term.log_prior.value[0] + sum((t.log_prior.value - t.log_posterior.value)[0] for t in above)
    exchanged = torch.full_like(matched, math.nan)
    if hasattr(inside.distribution, "decode"):
        exchanged = density(inside.distribution.decode(term.z.roll(1, 1)), repeat(inside.x, 1)).value[0]
    return _Columns(bound, term.log_posterior.value[0], log_p, matched, exchanged, means, term.z[0], kl)


def _single(trace: Trace, inside: Reached) -> Evidence:
    """The one-sample bound of the data, preprocessing included."""
    one = trace.log_weights().at(0)
    return one if inside.evidence is None else one + inside.evidence


def _means(inside: Reached, encoding: Any) -> Tensor:
    """Two estimates of E_q[z], (N, 2, Z), whose errors are independent; equal where the mean is in closed form."""
    try:
        mean = encoding.mean.flatten(1)
        return torch.stack([mean, mean], 1)
    except (AttributeError, NotImplementedError):
        terms = inside.distribution.trace(inside.x, 64, encoding).terms
        codes = torch.cat([term.z.flatten(2) for term in terms], -1)
        return codes.unflatten(0, (2, 32)).mean(1).transpose(0, 1)


def _importance(distribution: TorchDistribution, x: Tensor, samples: int) -> Number:
    try:
        curve = importance_curve(distribution, x, (samples,))
    except Unavailable as reason:
        return absent(str(reason))
    bound = curve.bounds[samples]
    return mean_of(bound.value, f"{bound.kind.value}; {bound.how}; {curve.convergence}")


def _information(walk: _Walk, conditional: bool) -> Panel:
    """kl, over all groups; for the first group kl = mutual_information + marginal_kl, from the same codes."""
    rows, first = walk.rows, walk.terms[0]
    labels = {f"log p({t.name})": t.log_prior for t in walk.terms} | {f"log r({t.name})": t.log_posterior for t in walk.terms}
    remark = "".join(f"; {name} is {e.kind.value} ({e.how})" for name, e in labels.items() if e.kind is not Kind.EXACT)
    groups = ", ".join(f"{t.name} {kl:.2f}" for t, kl in zip(walk.terms, rows.kl.mean(0).tolist(), strict=True))
    each = f" over {len(walk.terms)} groups ({groups})" if len(walk.terms) > 1 else ""
    panel: Panel = {"kl": mean_of(rows.kl.sum(-1), f"E log q(z|x) - log p(z){each}, 1 code a row{remark}")}
    if first.log_posterior.kind is not Kind.EXACT:
        reason = absent(f"needs an exact log q(z|x); found {first.log_posterior.kind.value} ({first.log_posterior.how})")
        return panel | {"mutual_information": reason, "marginal_kl": reason}
    if not all(hasattr(encoding, "batch_shape") for encoding in walk.encodings):
        reason = absent(f"needs the density of every code under every row's q; {type(walk.encodings[0]).__name__} has none")
        return panel | {"mutual_information": reason, "marginal_kl": reason}
    marginal, ceiling = _log_marginal(walk.encodings, rows.z), math.log(len(rows.z))
    information = rows.log_q - marginal
    near = "; at the ceiling" if float(information.mean()) > ceiling - 1.0 else ""
    bounded = "; an upper bound" if near or len(walk.terms) > 1 else ""
    how = f"aggregate posterior of {len(rows.z):,} rows, 1 code a row"
    information_metric = mean_of(information, f"{how}; cannot exceed log N = {ceiling:.2f} nats{near}")
    if conditional:
        return panel | {
            "mutual_information": information_metric,
            "marginal_kl": absent("every row has a prior of its own context"),
        }
    return panel | {
        "mutual_information": information_metric,
        "marginal_kl": mean_of(marginal - rows.log_p, f"KL(q(z) || p(z)), {how}{bounded}{remark}"),
    }


def _log_marginal(posteriors: list[TorchDistribution], z: Tensor) -> Tensor:
    """log of the mean over rows n of q(z_m | x_n), for each code z_m of z (N, *Z): (N,)."""
    blocks = []
    widest = max(int(p.batch_shape[0]) for p in posteriors)
    for block in z.split(max(1, PAIR_FLOATS // (widest * max(z[0].numel(), 1)))):
        pairs = (block.unsqueeze(1).expand(len(block), int(p.batch_shape[0]), *z.shape[1:]) for p in posteriors)
        logs = [density(p, pair).value for p, pair in zip(posteriors, pairs, strict=True)]
        blocks.append(torch.cat(logs, 1).logsumexp(1) - math.log(len(z)))
    return torch.cat(blocks)


def _active(means: Tensor) -> Number:
    """Units whose mean moves with x; the covariance of two estimates, so that their own noise is not counted."""
    centred = means - means.mean(0)
    spread = (centred[:, 0] * centred[:, 1]).sum(0) / (len(means) - 1)
    count, units = int((spread > ACTIVE).sum()), len(spread)
    return Number(float(count), None, len(means), f"of {units} codes, those with Var_x E[z|x] > {ACTIVE:g}")


def _shuffled(rows: _Columns) -> Number:
    how = "E log p(x|z) with codes exchanged between rows, minus with their own; 0: the decoder ignores z"
    lost = rows.shuffled - rows.matched
    if bool(rows.shuffled.isnan().all()):
        return absent("needs decode(z), to exchange codes between rows")
    bad = int((~lost.isfinite()).sum())
    return absent(f"{bad:,} of {len(lost):,} log-likelihoods are not finite") if bad else mean_of(lost, how)


# -- amortisation ----------------------------------------------------------------------------------------------------


class RowGaussians(Part):
    """q_n(z) = N(mean_n, exp(log_scale_n)^2): one free Gaussian for each row of a fixed batch; mean, log_scale (N, *Z)."""

    def __init__(self, mean: Tensor, log_scale: Tensor) -> None:
        super().__init__()
        self.mean, self.log_scale = nn.Parameter(mean.clone()), nn.Parameter(log_scale.clone())

    def forward(self, context: Context = None) -> GaussianDistribution:
        return GaussianDistribution(self.mean, self.log_scale.exp(), self.mean.dim() - 1)


def _amortisation(distribution: TorchDistribution, x: Tensor, seed: int, steps: int) -> Number:
    """Bound with refined q minus bound with the encoder's, under the same noise."""
    inside: Any = traced(distribution, x)
    latent, seen = inside.distribution, inside.x
    posterior = latent.infer(seen)
    reason = _unrefinable(latent, posterior)
    if reason is not None:
        return reason
    refined = refined_model(latent, posterior, seen, steps, seed)
    seed_all(seed, -6)
    before = _mean_bound(latent, seen, posterior)
    seed_all(seed, -6)
    after = _mean_bound(refined(), seen, None)
    how = f"bound after {steps} steps on mean and log-scale of each row's q, minus the encoder's; a lower bound of the gap"
    return mean_of(after - before, how)


def _unrefinable(latent: Any, posterior: TorchDistribution) -> Number | None:
    if type(posterior) is not GaussianDistribution:
        return absent(f"refining needs a Gaussian q(z|x); found {type(posterior).__name__}")
    if type(latent) is not LatentDistribution or latent.part.context_shapes:
        return absent(f"refining needs an unconditional LatentVariable; found {type(latent).__name__} with a context")
    return None


def refined_model(
    latent: LatentDistribution, posterior: GaussianDistribution, x: Tensor, steps: int, seed: int = 0
) -> LatentVariable:
    r"""The model with a free Gaussian for each of the rows x (N, \*E), fitted by the ELBO; prior and likelihood stand still."""
    prior, likelihood = (copy.deepcopy(part).requires_grad_(False) for part in (latent.part.prior, latent.part.likelihood))
    start = RowGaussians(posterior.loc, posterior.scale.log())
    model = LatentVariable(prior, likelihood, start, latent.part.event_shape).eval()
    training = Training(Adam(0.05), rate=Linear(1.0, 0.0, steps), seed=seed)
    with torch.enable_grad():
        for _ in fit(model, ELBO(samples=4), itertools.repeat(Batch(each(Tensor.detach, x)), steps), training=training):
            pass
    return model


def _mean_bound(latent: Any, x: Tensor, posterior: TorchDistribution | None, draws: int = 64, at_once: int = 8) -> Tensor:
    """Mean of `draws` one-sample bounds, (N,)."""
    bounds = [latent.trace(x, at_once, posterior).log_weights().value.mean(0) for _ in range(draws // at_once)]
    return torch.stack(bounds).mean(0)
