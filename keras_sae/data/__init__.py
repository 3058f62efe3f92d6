"""Data on their way to a model: reading, scaling, streaming in batches."""

from . import batches, datasets, preprocessing, readers

__all__ = ["batches", "datasets", "preprocessing", "readers"]
