"""The classic NumPy form, float64, gradients by hand."""

from benchmarks.classic import Autoencoder
from benchmarks.contenders import BETA, RHO, WEIGHT_DECAY, initial_weights


def objective(x, units, precision="float64"):
    autoencoder = Autoencoder(rho=RHO, beta=BETA, weight_decay=WEIGHT_DECAY)
    weights, x = [w.astype("float64") for w in initial_weights(x.shape[1], units)], x.astype("float64")
    return lambda: autoencoder.cost(weights, x)[0]
