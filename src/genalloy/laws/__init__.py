"""What every part, objective and transform must satisfy; each law takes the thing and asserts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
