"""The default weights of the penalties, in proportion to the number of features, beside the same weights for all data.

On digits of 784 and of 64 pixels and on tables of 30 and 13 columns, scaled to [0, 1]: an autoencoder trained by L-BFGS
on four fifths of the rows, drawn anew for each seed, a logistic regression on its features, and the accuracy of that
and the error of the reconstruction, as a share of the error of the mean, on the other fifth.

  python -m benchmarks.penalties                     three seeds: about two minutes
"""

import argparse

import numpy as np

FORMER = "rho 0.05, beta 3, lambda 0.0001"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and initial weights (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=200, help="of L-BFGS (default: %(default)s)")
    options = parser.parse_args()
    print("| data | features | penalties | accuracy | error, of the mean's |\n|---|---|---|---|---|")
    for name, (x, y, units) in data_sets().items():
        for penalties in ("default", FORMER):
            found = [measure(x, y, units, penalties, seed, options.iterations) for seed in range(options.seeds)]
            accuracy, error = np.mean(found, axis=0)
            print(f"| {name} | {x.shape[1]} | {penalties} | {accuracy:.1%} | {error:.3f} |", flush=True)


def data_sets():
    """Return name -> (rows in [0, 1], classes, hidden units)."""
    from sklearn import datasets as tables

    from keras_sae.data import datasets

    digits = datasets.load_images("mnist", "embedded")
    found = {"digits": (digits.x_train, digits.y_train, 196)}
    for name, load, units in (
        ("small digits", tables.load_digits, 64),
        ("breast cancer", tables.load_breast_cancer, 20),
        ("wine", tables.load_wine, 10),
    ):
        x, y = load(return_X_y=True)
        found[name] = ((x - x.min(axis=0)) / np.maximum(np.ptp(x, axis=0), 1e-9)).astype("float32"), y, units
    return found


def measure(x, y, units, penalties, seed, iterations):
    """Return (accuracy, error) on the rows held out."""
    import keras
    from sklearn.linear_model import LogisticRegression

    import keras_sae
    from keras_sae.metrics import half_variance

    order = np.random.default_rng(seed).permutation(len(x))
    train, held_out = np.split(order, [len(x) * 4 // 5])
    keras.utils.set_random_seed(seed)
    former = {"sparsity": keras_sae.KLSparsity(0.05, 3.0), "weight_decay": 1e-4}
    autoencoder = keras_sae.SparseAutoencoder(units, **({} if penalties == "default" else former))
    keras_sae.fit(autoencoder, x[train], iterations=iterations, verbose=0)
    probe = LogisticRegression(C=100, max_iter=3000).fit(autoencoder.transform(x[train]), y[train])
    error = autoencoder.reconstruction_error(x[held_out]).mean() / half_variance(x)
    return probe.score(autoencoder.transform(x[held_out]), y[held_out]), float(error)


if __name__ == "__main__":
    main()
