"""genalloy: deep generative models of every family and their combinations, compared honestly.

Models compose by nesting, objectives compose by adding, numbers carry their claim.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from genalloy.alloy import Alloy
    from genalloy.core.distribution import Distribution, density, draw
    from genalloy.core.evidence import Evidence, Kind, Unavailable
    from genalloy.core.part import Part
    from genalloy.objectives.objective import Objective, Play, Player, Turn
    from genalloy.training.checkpoint import load, save
    from genalloy.training.fit import fit

_WHERE = {
    "Player": "genalloy.objectives.objective",
    "Alloy": "genalloy.alloy",
    "Distribution": "genalloy.core.distribution",
    "density": "genalloy.core.distribution",
    "draw": "genalloy.core.distribution",
    "Evidence": "genalloy.core.evidence",
    "Kind": "genalloy.core.evidence",
    "Unavailable": "genalloy.core.evidence",
    "Objective": "genalloy.objectives.objective",
    "Play": "genalloy.objectives.objective",
    "Turn": "genalloy.objectives.objective",
    "Part": "genalloy.core.part",
    "load": "genalloy.training.checkpoint",
    "save": "genalloy.training.checkpoint",
    "fit": "genalloy.training.fit",
}

__all__ = [
    "Alloy",
    "Distribution",
    "Evidence",
    "Kind",
    "Objective",
    "Part",
    "Play",
    "Player",
    "Turn",
    "Unavailable",
    "density",
    "draw",
    "fit",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    """Names are imported when first used, so that `import genalloy` stays cheap."""
    if name not in _WHERE:
        raise AttributeError(f"module 'genalloy' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
