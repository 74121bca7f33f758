"""What makes a diffusion model: a path, a parameterisation, a weight and a distribution of times."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
