"""Sparse autoencoders of other libraries: read from their files, checked, and ours written as theirs."""

from .loading import load_sae as load_sae
from .saving import save_sae as save_sae
