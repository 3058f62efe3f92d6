"""The zoo: trained models with their measured numbers, one run directory each; see `keras_sae.list_presets`."""

from keras_sae.runs.presets import from_preset, list_presets

__all__ = ["from_preset", "list_presets"]
