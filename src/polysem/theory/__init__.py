"""The quadratic toy model in closed form: losses, optimal allocation, phase diagram, width planning; never samples."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
