"""Run directories: the trained model, how it was made and what it gave, a card; and presets, the runs that come along.

What is used from outside stands in `__init__.pyi`, which type checkers read as well.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
