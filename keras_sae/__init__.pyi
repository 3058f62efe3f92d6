from . import (
    anomalies as anomalies,
    callbacks as callbacks,
    errors as errors,
    layers as layers,
    losses as losses,
    metrics as metrics,
    regularizers as regularizers,
    runs as runs,
    sparsity as sparsity,
    visualization as visualization,
)
from .activation_maximization import maximal_inputs as maximal_inputs
from .cluster.cluster import Cluster as Cluster
from .convolution import convolutional_encoder as convolutional_encoder
from .data import datasets as datasets, preprocessing as preprocessing, readers as readers
from .data.batches import predict_in_chunks as predict_in_chunks
from .evaluation.evaluate import evaluate_features as evaluate_features
from .host.activation_files import activations as activations
from .host.splice import LossRecovered as LossRecovered, Splice as Splice, loss_recovered as loss_recovered
from .interchange import load_sae as load_sae, save_sae as save_sae
from .ladder import LadderClassifier as LadderClassifier
from .losses import HalfSquaredError as HalfSquaredError, SummedBinaryCrossentropy as SummedBinaryCrossentropy
from .regularizers import KLSparsity as KLSparsity, WeightDecay as WeightDecay
from .reports.report import report as report
from .runs.presets import from_preset as from_preset, list_presets as list_presets, sample_digits as sample_digits
from .runs.run_directories import load as load, load_encoder as load_encoder, save as save
from .sparse_autoencoder import SparseAutoencoder as SparseAutoencoder
from .stack import StackedAutoencoder as StackedAutoencoder
from .sweep import Sweep as Sweep
from .training.fit import fit as fit, fit_head as fit_head
from .training.full_batch import Objective as Objective, objective as objective
from .training.gradient_check import check_gradients as check_gradients, gradient_report as gradient_report
from .training.lbfgs import fit_lbfgs as fit_lbfgs
from .training.minibatches import fit_minibatches as fit_minibatches
from .training.synchronous import fit_synchronous as fit_synchronous
from .visualization import display_network as display_network

__version__: str
