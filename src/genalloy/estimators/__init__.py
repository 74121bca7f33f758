"""Estimators of log p(x), each a frozen value that is called with a distribution and x."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
