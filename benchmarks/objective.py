"""One objective and gradient over all the rows: keras_sae beside the classic NumPy code and the machine's own limit.

784-200-784, sigmoid, KL, weight decay, on real digits repeated to --rows. The work is counted in matrix products of
2 * rows * 784 * 200 floating-point operations: pass 1 takes one, pass 2 takes five (two forward, three backward). The
machine's rate is measured in the same run, as the same products done alone in float32.

  python -m benchmarks.objective                     60,000 rows: about a minute
"""

import argparse
import time

import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="examples (default: %(default)s)")
    parser.add_argument("--units", type=int, default=200, help="hidden units (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the median is shown (default: %(default)s)")
    measure(parser.parse_args())


def measure(options):
    import keras_sae
    from benchmarks.classic import Autoencoder
    from keras_sae.data import datasets
    from keras_sae.training.full_batch import ObjectiveFunction

    digits = datasets.load_images("mnist", "embedded").x_train
    x = np.resize(digits, (options.rows, digits.shape[1]))
    autoencoder = keras_sae.SparseAutoencoder(options.units, keras_sae.KLSparsity(0.1, 3.0), weight_decay=3e-3)
    autoencoder.build(x.shape)
    weights = [w.astype("float64") for w in autoencoder.get_weights()]
    x64 = x.astype("float64")
    candidates = {"NumPy float64, gradients by hand": lambda: Autoencoder().cost(weights, x64)}
    for chunk_size in (1_000, 5_000, 10_000, options.rows):
        function = ObjectiveFunction(autoencoder, x, chunk_size=chunk_size)
        function()  # traces and compiles
        candidates[f"keras_sae float32, chunks of {chunk_size:,}"] = function
    product = matrix_product(x, options.units)
    candidates["six float32 matrix products alone"] = lambda: [product() for _ in range(6)]

    seconds = {name: [] for name in candidates}
    for _ in range(options.repeats):  # side by side, because these machines' speed drifts
        for name, function in candidates.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
    report({name: np.median(times) for name, times in seconds.items()}, x.shape, options.units)


def matrix_product(x, units):
    """A function that multiplies (rows, features) with (features, units) in float32, in chunks of 10,000 rows."""
    import tensorflow as tf

    chunks = [tf.constant(x[start : start + 10_000]) for start in range(0, len(x), 10_000)]
    kernel = tf.random.normal((x.shape[1], units))
    return tf.function(lambda: [tf.matmul(chunk, kernel) for chunk in chunks])


def report(seconds, shape, units):
    rows, features = shape
    operations = 6 * 2 * rows * features * units
    limit = seconds["six float32 matrix products alone"]
    classic = next(iter(seconds.values()))
    print(f"{rows:,} x {features}, {units} units: {operations / 1e9:.1f} GFLOP; "
          f"float32 products alone: {operations / limit / 1e9:.0f} GFLOP/s")  # fmt: skip
    print("| one objective and gradient | seconds | times NumPy's speed | share of the machine's rate |")
    print("|---|---|---|---|")
    for name, time_taken in seconds.items():
        print(f"| {name} | {time_taken:.3f} | {classic / time_taken:.1f} | {limit / time_taken:.0%} |")


if __name__ == "__main__":
    main()
