"""The commands, one a file: parse, call, print. Everything heavy is imported inside a command."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
