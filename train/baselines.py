"""What features are compared with: a softmax on the inputs, on principal components and on random units."""

import keras
import numpy as np

import keras_sae
from keras_sae.data import batches
from keras_sae.data.preprocessing import LARGEST_WHITENED

WORDS = {
    "raw": "the scaled inputs, softmax",
    "pca": "as many principal components, softmax",
    "untrained": "as many units with random weights, softmax",
}


def measure(experiment, config, stack, untrained, train, held_out):
    """Train a softmax on what costs no training of features; measure their accuracies on the rows held out.

    stack: the pretrained one.  untrained: another of the same shape.  train, held_out: (inputs, class numbers).
    """
    steps = stack.preprocessing.layers
    encoders = {"raw": steps, "pca": [*steps, *principal_components(stack, train[0])], "untrained": [untrained.encoder]}
    for name, layers in encoders.items():
        if name == "pca" and len(layers) == len(steps):
            continue
        encoder = keras.Sequential([keras.Input(stack.encoder.input_shape[1:]), *layers])
        encoder.trainable = False
        decay = keras_sae.WeightDecay(1e-4)  # as the head of a stack's classifier
        softmax = keras.layers.Dense(1 + int(train[1].max()), "softmax", kernel_regularizer=decay)
        classifier = keras.Sequential([encoder, softmax])
        classifier.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        experiment.fit_labels(config, classifier, name, *train)
        experiment.accuracy(classifier, *held_out, f"accuracy_{name}", WORDS[name])
        del experiment.histories[name]  # curves.png is of the stack


def principal_components(stack, x):
    """Return a layer that projects scaled inputs to their main directions, as many as the stack has units on top.

    It is a list of one, or of none if there are too many inputs for their covariance.
    """
    features = x.shape[1]
    if features > LARGEST_WHITENED:
        return []

    def sums(chunk, *_):
        scaled = keras.ops.convert_to_numpy(stack.targets(chunk)).astype("float64")
        return [scaled.sum(axis=0), scaled.T @ scaled]

    mean, square = batches.mean_over_rows(batches.Chunks(x).read(), sums)
    directions = np.linalg.eigh(square - np.outer(mean, mean))[1][:, ::-1]
    kernel = directions[:, : stack.autoencoders[-1].units]
    layer = keras.layers.Dense(kernel.shape[1])
    layer.build((None, features))
    layer.set_weights([kernel, -mean @ kernel])
    return [layer]


def verdicts(metrics):
    """Return what the numbers of a run say against it, a list of sentences."""
    found = []
    error, of_mean = metrics["error_held_out"], metrics["error_mean_held_out"]
    if error >= of_mean:
        found.append(
            f"on held-out rows the reconstruction (error {error:.4g}) is no better than the mean of the training rows "
            f"({of_mean:.4g}): train longer, with more --units or a lower --beta"
        )
    if "accuracy_greedy" not in metrics:
        return found
    greedy, tuned = metrics["accuracy_greedy"], metrics["accuracy_finetuned"]
    better = [name for name in WORDS if metrics.get(f"accuracy_{name}", 0) > greedy]
    if better:
        listed = ", ".join(
            f"{WORDS[name].removesuffix(', softmax')} {metrics[f'accuracy_{name}']:.2%}" for name in better
        )
        found.append(f"on held-out rows a softmax does better without these features ({greedy:.2%}): {listed}")
    if tuned < greedy:
        found.append(f"fine-tuning lowered the accuracy on held-out rows from {greedy:.2%} to {tuned:.2%}")
    return found
