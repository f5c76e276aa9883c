"""Capacity, leverage, null baselines, blocks and polytopes of weights; no model, no file, no plot."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
