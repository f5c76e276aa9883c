"""Marginal returns to capacity: the loss of a feature against its capacity, for any readout."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
