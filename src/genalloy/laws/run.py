"""All laws that apply to one part, as findings: what `genalloy check` prints, and what third parties run on their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from genalloy.core.contexts import Shapes, shapes_of
from genalloy.core.distribution import Shape
from genalloy.core.part import evaluating
from genalloy.laws.contexts import contexts_by_name
from genalloy.laws.determinism import determinism
from genalloy.laws.draws import draw_reports_density, draws_follow_density
from genalloy.laws.gradients import gradients
from genalloy.laws.invertible import layers_invert
from genalloy.laws.shapes import shapes
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.storing import stores
from genalloy.laws.subject import NotApplicable, Subject
from genalloy.laws.total_mass import total_mass
from genalloy.training.seeding import Stream, seed_all

Law = Callable[[Subject], None]

LAWS: dict[str, Law] = {
    "shapes and contexts": shapes,
    "contexts are read by name": contexts_by_name,
    "total mass is one": total_mass,
    "samples follow the density": draws_follow_density,
    "draw() reports its density": draw_reports_density,
    "layers invert": layers_invert,
    "cached sampling equals naive": cached_equals_naive,
    "every parameter learns": gradients,
    "one seed, one result": determinism,
    "saves and loads": stores,
}


@dataclass(frozen=True)
class Finding:
    """One law's verdict. ok: not broken; words: what was found, "does not apply: ..." where the law has nothing to say."""

    law: str
    ok: bool
    words: str


def check_part(
    part: nn.Module, event_shape: Shape, context_shapes: Shapes = (), discrete: bool = False, levels: int = 0
) -> list[Finding]:
    """Every law on a part, in eval mode, with the caller's random stream and gradients left as they were.

    discrete: whether values are integers 0..K-1. levels: K, probed where 0. Never raises for what a law finds.
    """
    subject = Subject(part, tuple(event_shape), shapes_of(context_shapes), discrete, levels)
    with evaluating(part), Stream(part):
        return [_finding(name, law, subject) for name, law in LAWS.items()]


def _finding(name: str, law: Law, subject: Subject) -> Finding:
    seed_all(0, -6)
    try:
        law(subject)
    except NotApplicable as reason:
        return Finding(name, True, f"does not apply: {reason}")
    except AssertionError as broken:
        return Finding(name, False, str(broken))
    except (ArithmeticError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        return Finding(name, False, f"{type(error).__name__}: {error}")
    return Finding(name, True, "holds")
