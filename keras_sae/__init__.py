"""Sparse autoencoders for Keras: the Stanford UFLDL classics, exact to the formula, fast, and deployable."""

from keras_sae.autoencoder import SparseAutoencoder
from keras_sae.gradient_check import check_gradients, gradient_report
from keras_sae.lbfgs import fit_lbfgs
from keras_sae.losses import HalfSquaredError, SummedBinaryCrossentropy
from keras_sae.maximal_activation import maximal_inputs
from keras_sae.minibatches import fit_minibatches
from keras_sae.objective import Objective, objective
from keras_sae.regularizers import KLSparsity, WeightDecay
from keras_sae.runs import load, load_encoder, save
from keras_sae.stack import StackedAutoencoder
from keras_sae.visualization import display_network

__version__ = "0.1.0"

__all__ = [
    "HalfSquaredError",
    "KLSparsity",
    "Objective",
    "SparseAutoencoder",
    "StackedAutoencoder",
    "SummedBinaryCrossentropy",
    "WeightDecay",
    "check_gradients",
    "display_network",
    "fit_lbfgs",
    "fit_minibatches",
    "gradient_report",
    "load",
    "load_encoder",
    "maximal_inputs",
    "objective",
    "save",
]
