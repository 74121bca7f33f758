"""Constructor arguments as data: what makes every nested composition printable and storable without pickle.

The rule is a convention rather than machinery: every constructor argument is kept as an attribute of the same name.
Writing (:mod:`write`) names classes by a closed list (:mod:`names`, :mod:`torch_modules`, :mod:`classes`). Reading takes two
passes: the whole spec is checked before anything is imported (:mod:`check`), then built under a budget (:mod:`build`,
:mod:`guard`).
"""

from genalloy.core.spec.base import Foreign, Module, Value, arguments, call_text, layout, value_text
from genalloy.core.spec.build import construct, from_spec
from genalloy.core.spec.write import to_spec

__all__ = [
    "Foreign",
    "Module",
    "Value",
    "arguments",
    "call_text",
    "construct",
    "from_spec",
    "layout",
    "to_spec",
    "value_text",
]
