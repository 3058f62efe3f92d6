"""What features are compared with: a softmax on the inputs, on principal components and on random units."""

from keras_sae.evaluation.evaluate import principal_components, softmax_on

WORDS = {
    "raw": "the scaled inputs, softmax",
    "pca": "as many principal components, softmax",
    "untrained": "as many units with random weights, softmax",
}


def measure(experiment, config, stack, untrained, train, held_out):
    """Train a softmax on what costs no training of features; measure their accuracies on the rows held out.

    stack: the pretrained one.  untrained: another of the same shape.  train, held_out: (inputs, class numbers).
    """
    components = principal_components(train[0], stack.autoencoders[-1].units, stack.preprocessing)
    scaling = [] if stack.preprocessing is None else [stack.preprocessing]
    num_classes = 1 + int(train[1].max())
    random = untrained.classifier(num_classes).get_layer("encoder")  # without penalties, which are nothing to a softmax
    encoders = {"raw": scaling, "untrained": [random]}
    if components is not None:
        encoders["pca"] = [*scaling, components]
    for name, layers in encoders.items():
        classifier = softmax_on(layers, train[0].shape[1], num_classes)
        classifier.get_layer("encoder").trainable = False
        experiment.fit_labels(config, classifier, name, *train)
        experiment.accuracy(classifier, *held_out, f"accuracy_{name}", WORDS[name])
        del experiment.histories[name]  # curves.png is of the stack


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
