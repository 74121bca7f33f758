"""What is minimised; objectives compose by adding, and own the other players of the game."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
