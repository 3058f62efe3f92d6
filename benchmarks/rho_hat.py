"""Training on minibatches beside the exact objective: what `KLSparsity(window=...)` makes of rho_hat.

784-196-784, rho 0.1, beta 3, lambda 3e-3, on real digits, from the same initial weights: Adam on batches of 8 to 4,096
(or all), with the mean of the batch and with a moving average as rho_hat, and L-BFGS on the exact objective. All
figures but the time are exact, over the whole set, by `keras_sae.objective`.

The same for all batch sizes is the number of updates times the learning rate: the farthest that Adam can move a weight.
The rate starts at 1e-3 sqrt(batch / 32), as the noise of the gradient allows, and falls to 0 on a cosine, so that the
figures show where training ends and not how it trembles. So there are sqrt(batch / 32) times --epochs epochs.

  python -m benchmarks.rho_hat                       embedded digits: under four minutes on two cores
"""

import argparse
import functools
import math
import time

import numpy as np

RHO = 0.1
BATCH_SIZES = (8, 32, 256, 4096)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded", help="folder with IDX files (default: the 5,000 embedded digits)")
    parser.add_argument("--epochs", type=int, default=20, help="on batches of 32 (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=200, help="of L-BFGS (default: %(default)s)")
    parser.add_argument("--digits", type=int, default=4000, help="to train on, at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    measure(parser.parse_args())


def measure(options):
    from keras_sae import fit_lbfgs
    from keras_sae.data import datasets

    digits = datasets.load_images("mnist", options.data).x_train
    x = digits[:: max(1, len(digits) // options.digits)][: options.digits]
    print(f"{len(x):,} digits, seed {options.seed}\n")
    print("| batch | average | exact J | mean rho_hat | largest distance from rho | root mean square | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for batch_size in sorted({min(size, len(x)) for size in BATCH_SIZES}):
        for average, window in {"batch": None, "moving": 128}.items():
            fit = functools.partial(fit_adam, x=x, batch_size=batch_size, epochs=options.epochs)
            row(f"{batch_size:,}", average, autoencoder(window, options.seed), x, fit)
    fit = functools.partial(fit_lbfgs, x=x, max_iterations=options.iterations)
    row("all, by L-BFGS", "exact", autoencoder(None, options.seed), x, fit)


def autoencoder(window, seed):
    import keras

    import keras_sae

    keras.utils.set_random_seed(seed)
    return keras_sae.SparseAutoencoder(196, keras_sae.KLSparsity(RHO, 3.0, window=window), weight_decay=3e-3)


def fit_adam(ae, x, batch_size, epochs):
    """Updates times learning rate are those of `epochs` epochs on batches of 32 at a rate of 1e-3."""
    import keras

    from keras_sae.callbacks import ProgressBar

    scale = math.sqrt(batch_size / 32)
    epochs = max(1, round(epochs * scale))
    updates = epochs * math.ceil(len(x) / batch_size)
    ae.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3 * scale, updates)))
    ae.fit(x, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[ProgressBar(f"batch {batch_size}")])


def row(batch, average, ae, x, fit):
    """Train and print the exact figures of the outcome."""
    from keras_sae import objective

    ae.build(x.shape)
    began = time.perf_counter()
    fit(ae)
    seconds = time.perf_counter() - began
    result = objective(ae, x)
    rho_hat = result.rho_hat[0]
    distance = np.abs(rho_hat - RHO)
    print(f"| {batch} | {average} | {result.value:.3f} | {rho_hat.mean():.4f} | {distance.max():.4f} "
          f"| {np.sqrt(np.mean(distance**2)):.4f} | {seconds:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
