"""Trained models as files to deploy: `export_model`, or the command python -m export --help"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .exporting import export_model as export_model

# Loaded when it is used: the check of an export runs in this package without keras_sae.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"exporting": ["export_model"]})
