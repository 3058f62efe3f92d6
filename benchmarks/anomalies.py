"""How well odd rows are told from usual ones, beside scikit-learn's IsolationForest and PCA: areas under the ROC curve.

Each data set has usual rows and odd ones, which are known by their labels alone: benign tumours and malignant ones; one
digit and the nine others, or nine digits and the other one, each digit in turn. Every split draws two thirds of the
usual rows to learn from; the others, and all odd rows, are scored. The autoencoder is what `python -m train.features`
makes of those rows with 64 units, a tenth of them held out; IsolationForest has scikit-learn's defaults, PCA the
components of 95 % of the variance on the same scaled columns. Nothing is chosen by odd rows. False alarms and finds are
the shares of usual and of odd rows above the quantile that `python -m export.anomalies` takes by default.

  python -m benchmarks.anomalies                     five splits: 10 to 20 minutes
"""

import argparse

import numpy as np

UNITS, ITERATIONS = 64, 200


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=5, help="of the usual rows (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of L-BFGS (default: %(default)s)")
    options = parser.parse_args()
    print("| data | columns | autoencoder | IsolationForest | PCA | quantile | false alarms | finds |")
    print("|---|---|---|---|---|---|---|---|")
    for name, cases in data_sets().items():
        found = [measure(x, odd, seed, options.iterations) for x, odd in cases for seed in range(options.splits)]
        columns = [np.array([measured[key] for measured in found]) for key in ("autoencoder", "forest", "pca")]
        areas = " | ".join(f"{areas.mean():.3f} ± {areas.std():.3f}" for areas in columns)
        quantile, alarms, finds = (np.mean([m[key] for m in found]) for key in ("level", "false_alarms", "finds"))
        print(
            f"| {name} | {cases[0][0].shape[1]} | {areas} | {quantile:.3g} | {alarms:.1%} | {finds:.1%} |", flush=True
        )


def data_sets():
    """Return name -> list of (rows, whether each is odd), one for each choice of what is usual."""
    from sklearn import datasets as tables

    from keras_sae.data import datasets

    tumours, kinds = tables.load_breast_cancer(return_X_y=True)
    small, digits = tables.load_digits(return_X_y=True)
    images = datasets.load_images("mnist", "embedded")
    return {
        "breast cancer, malignant among benign": [(tumours, kinds == 0)],
        "digits, 8x8, others among one": [(small, digits != digit) for digit in range(10)],
        "digits, 8x8, one among others": [(small, digits == digit) for digit in range(10)],
        "digits, 28x28, others among one": [(images.x_train, images.y_train != digit) for digit in range(10)],
    }


def measure(x, odd, seed, iterations):
    """Return the areas under the curve of one split, and what the quantile does."""
    from sklearn.metrics import roc_auc_score

    x = x.astype("float32")
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~odd))
    train, usual = np.split(order, [len(order) * 2 // 3])
    test = np.concatenate([usual, np.flatnonzero(odd)])
    train, held_out = np.split(train, [len(train) - len(train) // 10])
    stack, errors = autoencoder(x[train], x[held_out], seed, iterations)
    scores = others(stack, x[np.append(train, held_out)], x[test], seed)
    scores["autoencoder"] = stack.reconstruction_error(x[test])
    found = {name: roc_auc_score(odd[test], score) for name, score in scores.items()}
    above = scores["autoencoder"] > errors.quantiles[errors.level]
    return {**found, "level": errors.level, "false_alarms": above[~odd[test]].mean(), "finds": above[odd[test]].mean()}


def autoencoder(x, held_out, seed, iterations):
    """Return the stack that `train.features` makes of rows, and its usual errors."""
    import keras

    from keras_sae.anomalies import UsualErrors
    from keras_sae.data.preprocessing import fit_preprocessing
    from keras_sae.metrics import half_variance
    from keras_sae.stack import build_stack

    keras.utils.set_random_seed(seed)
    preprocessing = fit_preprocessing(x)
    stack = build_stack((UNITS,), half_variance(x, preprocessing), preprocessing=preprocessing)
    stack.pretrain(x, iterations=iterations, verbose=0)
    return stack, UsualErrors.measure(stack, held_out)


def others(stack, x, test, seed):
    """Return how odd rows are by the two of scikit-learn, which learn from the held-out rows as well."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(random_state=seed).fit(x)
    scaled, rows = (np.asarray(stack.uncut(some), "float64") for some in (x, test))
    pca = PCA(0.95).fit(scaled)
    distance = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(axis=1)
    return {"forest": -forest.score_samples(test), "pca": distance}


if __name__ == "__main__":
    main()
