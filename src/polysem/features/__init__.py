"""Distributions of sparse features, their exact moments, and importance curves."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
