"""How large a spec may be. Written models obey them by construction of the writer; a file that does not is refused."""

from __future__ import annotations

LEVELS = 100
"""Modules, values and lists inside one another. The deepest recipe has about 20; recursion stays within Python's own limit."""
CHAIN = 4 * LEVELS
"""Nodes of the longest path; longer than LEVELS where parts are shared, as the writer follows each of them once."""
VALUES = 2_000_000
"""Values of a spec in all; a file's header is too short for more."""
INTEGERS = 2**63 - 1
"""Magnitude of an integer: seeds have 63 bits."""
SIZES = 2**24
"""Magnitude of an integer among a module's own arguments, where the file has no tensor of more elements: a size or a count,
over which its constructor may loop, or raise something to its power, without allocating."""
