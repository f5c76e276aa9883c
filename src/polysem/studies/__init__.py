"""The experiments of the report: one frozen configuration and one result class each; draws nothing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
