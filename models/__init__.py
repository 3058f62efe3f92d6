"""The zoo: trained models with their measured numbers, one run directory each; see `keras_sae.presets`."""

from keras_sae.presets import from_preset, list_presets

__all__ = ["from_preset", "list_presets"]
