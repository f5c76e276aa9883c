"""Checks of arguments: every error names the argument, its value and what is allowed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
