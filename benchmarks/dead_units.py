"""Dead units of TopK: what revives them, or lets fewer die, on patches of photographs and on digits.

Eight times as many units as pixels on whitened patches of 8x8 pixels, with k = 8, and units on digits with k = 25. Each
way trains with the same minibatches for as many steps, by Adam at 0.001, the last fifth at a tenth of it. Counted are
units that are active for none of the rows that were learned from, and for none of others.

  none        nothing is done                    aux         AuxK(weight=1), dead after a 50th of the examples
  late-aux    dead after a fifth of them         light-aux   AuxK(), whose weight is 1/32
  start       k_start = 4 k, and k after three tenths of the examples; start-aux: and aux
  resample    ResampleDeadUnits every second epoch of the first half

  python -m benchmarks.dead_units --data DIR       MNIST of 60,000 digits: ten minutes on a core
  python -m benchmarks.dead_units                  the 4,000 embedded digits
"""

import argparse
import time

import numpy as np

RATE, BATCH = 1e-3, 256
K = {"patches": 8, "digits": 25}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded", help="folder with IDX files (default: the embedded digits)")
    parser.add_argument("--units", type=int, default=1000, help="on digits (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=ways(1, 1), metavar="WAY", help="(default: all)")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the rows (default: %(default)s)")
    parser.add_argument("--patches", type=int, default=50_000, help="to learn from (default: %(default)s)")
    options = parser.parse_args()
    print("| data | units | way | dead, learned rows | dead, others | variance explained | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, (x, others) in data_sets(options).items():
        k, units = K[name], options.units if name == "digits" else 8 * x.shape[1]
        chosen = ways(k, options.epochs * len(x))
        for way in options.ways or chosen:
            settings = chosen[way]
            dead, dead_others, explained, seconds = measure(x, others, units, k, options.epochs, **settings)
            row = f"| {name} | {units:,} | {way} | {dead} | {dead_others} | {explained:.4f} | {seconds:.0f} |"
            print(row, flush=True)


def data_sets(options):
    """Return name -> (rows to learn from, others)."""
    from keras_sae.data import datasets

    images = datasets.load_images("mnist", options.data).x_train
    images = images[np.random.default_rng(0).permutation(len(images))]
    return {"patches": patches(options.patches), "digits": np.split(images, [5 * len(images) // 6])}


def patches(number):
    """Return so many whitened patches of 8x8 pixels of scikit-learn's photographs, and 10,000 others."""
    from sklearn.datasets import load_sample_images
    from sklearn.feature_extraction.image import extract_patches_2d

    from keras_sae.data.batches import predict_in_chunks
    from keras_sae.data.preprocessing import fit_zca

    each = -(-(number + 10_000) // 2)
    pictures = [image.mean(axis=2) / 255 for image in load_sample_images().images]
    x = np.concatenate([extract_patches_2d(image, (8, 8), max_patches=each, random_state=0) for image in pictures])
    x = np.random.default_rng(0).permutation(x.reshape(-1, 64).astype("float32"))
    whiten = fit_zca(x[:number], 0.01)
    return [predict_in_chunks(whiten, rows) for rows in (x[:number], x[-10_000:])]


def ways(k, examples):
    """Return name -> arguments of TopK, of AuxK and of ResampleDeadUnits, for a training on so many examples."""
    fewer, soon, late = {"k_start": 4 * k, "anneal": 0.3 * examples}, examples // 50 or 1, examples // 5
    return {
        "none": {},
        "late-aux": {"top_k": {"window": late}, "aux_k": {"weight": 1.0}},
        "aux": {"top_k": {"window": soon}, "aux_k": {"weight": 1.0}},
        "light-aux": {"top_k": {"window": soon}, "aux_k": {}},
        "start": {"top_k": fewer},
        "start-aux": {"top_k": {**fewer, "window": soon}, "aux_k": {"weight": 1.0}},
        "resample": {"top_k": {"window": soon}, "resample": {"every": 2, "size": 1.0}},
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
    callbacks = [keras_sae.callbacks.ResampleDeadUnits(x, until=max(2, epochs // 2), **resample)] if resample else []
    options = {"batch_size": BATCH, "callbacks": callbacks, "verbose": 0}
    began = time.perf_counter()
    keras_sae.fit(autoencoder, x, None, keras.optimizers.Adam(rate), epochs, **options)
    seconds = time.perf_counter() - began
    learned, held_out = (keras_sae.evaluate_features(autoencoder, rows) for rows in (x, others))
    return learned.dead_units, held_out.dead_units, held_out.explained_variance, seconds


if __name__ == "__main__":
    main()
