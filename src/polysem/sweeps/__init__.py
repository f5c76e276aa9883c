"""Grids of settings, computed stack by stack into a labelled store that survives whatever interrupts it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
