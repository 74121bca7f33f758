"""Data of every form: loaded, encoded, described, split; and toys with known densities."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
