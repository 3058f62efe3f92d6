"""How many hidden units: the default of train.features, twice the columns and 200 at most, beside fewer and more.

On tables of 4, 13 and 30 columns and digits of 64 and 784 pixels: a stack of one layer, trained by L-BFGS on four
fifths of the rows, drawn anew for each seed, and a softmax on its features; the accuracy of that and the share of the
variance that the reconstruction explains, on the other fifth. No test set is looked at.

  python -m benchmarks.units                     three seeds: about ten minutes
"""

import argparse
import time

import numpy as np

FORMER, MOST, LARGEST = 64, 200, 256  # the default before, the largest default now, the largest that is tried


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and initial weights (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=200, help="of L-BFGS (default: %(default)s)")
    options = parser.parse_args()
    print("| data | columns | units | accuracy | explained variance | seconds |\n|---|---|---|---|---|---|")
    for name, (x, y) in data_sets().items():
        columns = x.shape[1]
        for units in sorted({FORMER, MOST, *(n * columns for n in (1, 2, 4) if n * columns <= LARGEST)}):
            found = [measure(x, y, units, seed, options.iterations) for seed in range(options.seeds)]
            accuracy, explained, seconds = np.mean(found, axis=0)
            default = " (default)" if units == min(2 * columns, MOST) else ""
            row = f"| {name} | {columns} | {units}{default} | {accuracy:.1%} | {explained:.3f} | {seconds:.1f} |"
            print(row, flush=True)


def data_sets():
    """Return name -> (rows as they are, classes)."""
    from sklearn import datasets as tables

    from keras_sae.data import datasets

    names = ("iris", "wine", "breast_cancer", "digits")
    found = {name: getattr(tables, f"load_{name}")(return_X_y=True) for name in names}
    digits = datasets.load_images("mnist", "embedded")
    found["MNIST, 2,000"] = digits.x_train[::2], digits.y_train[::2]
    return {name: (x.astype("float32"), y) for name, (x, y) in found.items()}


def measure(x, y, units, seed, iterations):
    """Return (accuracy, explained variance, seconds of training the features) on the rows held out."""
    import keras

    import keras_sae
    from keras_sae.data.batches import predict_in_chunks
    from keras_sae.data.preprocessing import fit_preprocessing
    from keras_sae.metrics import half_variance
    from keras_sae.stack import build_stack

    order = np.random.default_rng(seed).permutation(len(x))
    held_out, train = np.split(order, [len(x) // 5])
    preprocessing = fit_preprocessing(x[train])
    variance = half_variance(x[train], preprocessing)
    keras.utils.set_random_seed(seed)
    stack = build_stack((units,), variance, preprocessing=preprocessing)
    began = time.perf_counter()
    stack.pretrain(x[train], iterations=iterations, verbose=0)
    seconds = time.perf_counter() - began
    classifier = stack.classifier(int(y.max()) + 1)
    keras_sae.fit_head(classifier, x[train], y[train], iterations=iterations, verbose=0)
    right = predict_in_chunks(classifier, x[held_out]).argmax(axis=1) == y[held_out]
    return right.mean(), 1 - stack.reconstruction_error(x[held_out]).mean() / variance, seconds


if __name__ == "__main__":
    main()
