"""Dead units of TopK: what revives them, or lets fewer die, on patches of photographs and on digits.

Eight times as many units as pixels on patches of 8x8 pixels, 1,000 units on digits. Each way trains with the same
minibatches for as many steps, by Adam at 0.001, the last fifth at a tenth of it. Counted are units that are active for
none of the rows that were learned from, and for none of others.

  python -m benchmarks.dead_units --data DIR       MNIST of 60,000 digits: 15 minutes on a core
  python -m benchmarks.dead_units                  patches, and the 4,000 embedded digits
"""

import argparse
import time

import numpy as np

RATE, BATCH = 1e-3, 256
# Name -> (units, active units, data).
DICTIONARIES = {"patches": (512, 8), "digits": (1000, 25)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded", help="folder with IDX files (default: the embedded digits)")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the rows (default: %(default)s)")
    parser.add_argument("--patches", type=int, default=50_000, help="to learn from (default: %(default)s)")
    options = parser.parse_args()
    print("| data | units | way | dead, learned rows | dead, others | variance explained | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, (x, others) in data_sets(options).items():
        units, k = DICTIONARIES[name]
        for way, settings in ways(k, options.epochs * len(x)).items():
            dead, dead_others, explained, seconds = measure(x, others, units, k, options.epochs, **settings)
            row = f"| {name} | {units:,} | {way} | {dead} | {dead_others} | {explained:.4f} | {seconds:.0f} |"
            print(row, flush=True)


def data_sets(options):
    """Return name -> (rows to learn from, others)."""
    from keras_sae.data import datasets
    from train.data import patches

    images, _ = patches.load_whitened(None)
    of_photographs = [patches.sample_patches(images, n, 8, seed) for seed, n in enumerate((options.patches, 10_000))]
    x = datasets.load_images("mnist", options.data).x_train
    x = x[np.random.default_rng(0).permutation(len(x))]
    return {"patches": of_photographs, "digits": np.split(x, [5 * len(x) // 6])}


def ways(k, examples):
    """Return name -> arguments of TopK, of AuxK and of ResampleDeadUnits, for a training on so many examples."""
    fewer, soon = {"k_start": 4 * k, "anneal": 0.3 * examples}, {"window": max(1, examples // 50)}
    return {
        "none": {},
        "AuxK(weight=1), window of a 5th": {"top_k": {"window": examples // 5}, "aux_k": {"weight": 1.0}},
        "AuxK(weight=1), window of a 50th": {"top_k": soon, "aux_k": {"weight": 1.0}},
        "AuxK(), window of a 50th": {"top_k": soon, "aux_k": {}},
        "k_start=4 k": {"top_k": fewer},
        "k_start=4 k, AuxK(), window of a 50th": {"top_k": {**fewer, **soon}, "aux_k": {}},
        "ResampleDeadUnits, in the first half": {"top_k": soon, "resample": {"every": 2, "size": 1.0}},
    }


def measure(x, others, units, k, epochs, top_k=None, aux_k=None, resample=None):
    """Return (units that no learned row activates, that no other row does, variance explained of others, seconds)."""
    import keras

    import keras_sae
    from keras_sae.sparsity import AuxK, TopK

    keras.utils.set_random_seed(0)
    revive = None if aux_k is None else AuxK(**aux_k)
    autoencoder = keras_sae.SparseAutoencoder(units, TopK(k, **(top_k or {})), input_scale=True, revive=revive)
    steps = epochs * -(-len(x) // BATCH)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([round(0.8 * steps)], [RATE, RATE / 10])
    callbacks = [keras_sae.callbacks.ResampleDeadUnits(x, until=max(1, epochs // 2), **resample)] if resample else []
    options = {"batch_size": BATCH, "callbacks": callbacks, "verbose": 0}
    began = time.perf_counter()
    keras_sae.fit(autoencoder, x, None, keras.optimizers.Adam(rate), epochs, **options)
    seconds = time.perf_counter() - began
    learned, held_out = (keras_sae.evaluate_features(autoencoder, rows) for rows in (x, others))
    return learned.dead_units, held_out.dead_units, held_out.explained_variance, seconds


if __name__ == "__main__":
    main()
