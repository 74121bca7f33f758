"""genalloy: deep generative models of every family and their combinations, compared honestly.

Models compose by nesting, objectives compose by adding, numbers carry their claim. `dir(genalloy)` is the public interface: the
names that most programs need, and the rooms that hold the others. All are imported when first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
