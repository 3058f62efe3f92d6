"""Large dictionaries: a training step of a TopK autoencoder, its decoder as a matrix product or as a sum of k rows.

Each way trains in a process of its own, so that its peak memory is its own. "dense" is what the library does. "rows" is
written out here, with the same weights, loss and Adam: it decodes by gathering the rows of the active units.

  python -m benchmarks.dictionaries                     784-4,096, 784-16,384 and 768-32,768, batches of 256
"""

import argparse
import json
import resource
import subprocess
import sys
import time

SIZES = ((784, 4096), (784, 16_384), (768, 32_768))
WAYS = ("dense", "rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, help="a size of your own (default: the sizes above)")
    parser.add_argument("--units", type=int, help="with --features")
    parser.add_argument("--k", type=int, default=32, help="active units of an example (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="timed, after two that are not (default: %(default)s)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return
    print("| features, units | decoder | ms a step | least | peak MB | loss at the end |\n|---|---|---|---|---|---|")
    for features, units in [(options.features, options.units)] if options.features else SIZES:
        for way in WAYS:
            found = in_a_process(options, features, units, way)
            cells = [f"{found[name]:.0f}" for name in ("median", "least", "peak")]
            print(f"| {features}, {units:,} | {way} | {' | '.join(cells)} | {found['loss']:.4f} |", flush=True)


def in_a_process(options, features, units, way):
    """Return what `measure` finds in a process of its own."""
    sizes = {"features": features, "units": units, "k": options.k, "batch-size": options.batch_size}
    words = [f"--{name}={value}" for name, value in {**sizes, "steps": options.steps, "way": way}.items()]
    command = [sys.executable, "-m", "benchmarks.dictionaries", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(options):
    """Return milliseconds a step, their median and least, the peak memory in MB and the last loss."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_sae
    from keras_sae.sparsity import TopK

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((options.batch_size, options.features), dtype="float32")
    ae = keras_sae.SparseAutoencoder(options.units, TopK(options.k), pre_bias=False)
    ae.compile(keras.optimizers.Adam(1e-4))
    ae.build((None, options.features))
    ae.optimizer.build(ae.trainable_variables)
    hidden, output, k = ae.encoder.get_layer("hidden"), ae.output_layer, options.k

    def loss_of_rows(x):
        values, units = tf.math.top_k(tf.nn.relu(hidden(x)), k)
        rows = tf.gather(output.kernel, units)
        xhat = tf.einsum("bk,bkf->bf", values, rows) + output.bias
        return tf.reduce_mean(tf.reduce_sum((xhat - x) ** 2, axis=1)) / 2

    def loss_of_product(x):
        return tf.reduce_mean(tf.reduce_sum((ae(x, training=True) - x) ** 2, axis=1)) / 2

    loss = loss_of_rows if options.way == "rows" else loss_of_product

    @tf.function(jit_compile=True, autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            value = loss(x)
        ae.optimizer.apply(tape.gradient(value, [v.value for v in ae.trainable_variables]))
        return value

    data, seconds = tf.constant(x), []
    for _ in range(options.steps + 2):
        began = time.perf_counter()
        value = float(step(data))
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    timed = 1000 * np.array(seconds[2:])
    return {"median": float(np.median(timed)), "least": float(timed.min()), "peak": peak, "loss": value}


if __name__ == "__main__":
    main()
