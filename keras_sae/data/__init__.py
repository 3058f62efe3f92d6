"""What happens to data before a model sees them: they are read, scaled and streamed in batches."""

from . import batches, datasets, preprocessing, readers

__all__ = ["batches", "datasets", "preprocessing", "readers"]
