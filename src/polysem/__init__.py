"""Measure, predict and control how a neural network spends its limited dimensions on features."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
