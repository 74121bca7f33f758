"""What everything else is made of: evidence, observations, distributions, parts, and the closed list that files may name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
