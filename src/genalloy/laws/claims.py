r"""The label algebra a second time, from what a label means, as the judge of nested labels.

A claim is two statements about v and log p: *below*, E v <= log p, and *above*, E v >= log p. An exact value satisfies
both without noise, an unbiased one with noise; LOWER and UPPER satisfy one, an estimate none. Sums keep the statements
that every term keeps, a minus sign swaps them, and imputing a hidden variable gives one up. Inside a logarithm of a sum noise
pushes upwards: *above* is kept, *below* only by terms with E exp(v) = p(x).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from genalloy.core.evidence import Evidence, Kind
from genalloy.laws.subject import check

_STATEMENTS = {
    Kind.EXACT: (True, True),
    Kind.UNBIASED: (True, True),
    Kind.LOWER: (True, False),
    Kind.UPPER: (False, True),
    Kind.ESTIMATE: (False, False),
    Kind.NONE: (False, False),
}


@dataclass(frozen=True)
class Claim:
    """below, above: see the module's text. noisy: whether the value is random. there: whether there is a number."""

    below: bool
    above: bool
    noisy: bool
    there: bool = True
    proper: bool = False

    @staticmethod
    def of(kind: Kind, proper: bool) -> Claim:
        below, above = _STATEMENTS[kind]
        return Claim(below, above, kind is not Kind.EXACT, kind is not Kind.NONE, proper)

    @property
    def kind(self) -> Kind:
        if not self.there:
            return Kind.NONE
        if self.below and self.above:
            return Kind.UNBIASED if self.noisy else Kind.EXACT
        return Kind.LOWER if self.below else (Kind.UPPER if self.above else Kind.ESTIMATE)

    def plus(self, *others: Claim) -> Claim:
        """The claim of a sum."""
        every = (self, *others)
        result = Claim(
            all(c.below for c in every),
            all(c.above for c in every),
            any(c.noisy for c in every),
            all(c.there for c in every),
            all(c.proper for c in every),
        )
        return result.sound()

    def sound(self) -> Claim:
        """Propriety implies a side, so that a claim without one is never called proper."""
        return replace(self, proper=self.proper and self.kind in (Kind.EXACT, Kind.LOWER, Kind.UPPER))

    def minus(self) -> Claim:
        """The claim of the negative."""
        return replace(self, below=self.above, above=self.below)

    def imputed(self) -> Claim:
        """A hidden variable was imputed for a point from outside."""
        return replace(self, above=False, noisy=True).sound()

    def own(self) -> Claim:
        """A hidden variable was used up by an own sample."""
        return replace(self, below=False, noisy=True).sound()

    def matches(self, evidence: Evidence, words: str) -> None:
        """Raise AssertionError unless the evidence claims exactly this."""
        found, expected = (evidence.kind.value, evidence.proper), (self.kind.value, self.proper)
        check(
            found == expected,
            f"{words} claims {found[0]} (proper: {found[1]}), the algebra predicts {expected[0]} (proper: {expected[1]})",
        )


@dataclass(frozen=True)
class Claims:
    """What a part claims of points from outside (density) and of its own samples (draw)."""

    density: Claim
    draw: Claim


def exact() -> Claims:
    return Claims(Claim.of(Kind.EXACT, True), Claim.of(Kind.EXACT, True))


def of_latent(prior: Claims, likelihood: Claims, posterior: Claims) -> Claims:
    """log p(x|z) + log p(z) - log r(z|x), with z from r for a given x, and from p for an own one."""
    outside = likelihood.density.plus(prior.density, posterior.draw.minus()).imputed()
    own = likelihood.draw.plus(prior.draw, posterior.density.minus()).own()
    return Claims(outside, own)


def of_flow(base: Claims, encoding: Claim, decoding: Claim) -> Claims:
    """log p(z) plus the layers' contributions."""
    return Claims(base.density.plus(encoding), base.draw.plus(decoding))


def of_mixture(*parts: Claims) -> Claims:
    """Log-sum-exp; an own sample takes the chosen component's draw() and the others' density()."""
    densities, draws = [c.density for c in parts], [c.draw for c in parts]
    everything = [*densities, *draws]
    if not all(c.there for c in everything):
        gone = Claim.of(Kind.NONE, False)
        return Claims(gone if not all(c.there for c in densities) else _log_sum_exp(densities), gone)
    if not any(c.noisy for c in everything):
        return exact()
    proper = all(c.proper for c in everything)
    own = Claim(False, proper, True, True, proper)
    return Claims(_log_sum_exp(densities), own)


def _log_sum_exp(terms: list[Claim]) -> Claim:
    noisy, proper = any(c.noisy for c in terms), all(c.proper for c in terms)
    below = all(c.below and c.proper for c in terms)
    above = all(c.above for c in terms)
    if not noisy:
        return Claim.of(Kind.EXACT, proper)
    return Claim(below, above and not below, True, True, proper and below)
