"""The explorer: pages in a browser on this machine that call the library and hold no mathematics of their own."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
