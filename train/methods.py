"""The methods of sparsity that commands take by name, and dictionaries of them."""

from . import cli

# What --active sets, more or less; "l1" in train.mnist is the classic penalty, so it is not among them.
LARGEST = ("top_k", "k_sparse", "batch_top_k", "matryoshka")  # which keep the largest units
BY_ACTIVE = (*LARGEST, "jump_relu", "gated", "winner_take_all")
METHODS = (*BY_ACTIVE, "l1", "kl")
HELP = "; or a method of keras_sae.sparsity, by which about --active units are active (--optimizer adam)"
ANNEALED = 0.3  # of a training: methods of LARGEST begin with AT_FIRST times as many active units, so that few die
AT_FIRST = 4  # Makhzani & Frey begin with 100 of 1,000 units for 15
RATE = 1e-3  # of Adam at first: at 0.01, as the notes' sigmoid units have it, units without an upper bound die


def method_of(name, active, units, examples):
    """Return the method of this name with about so many active units of an example, for a training on `examples`.

    The weights of L1 and of the gates are what gives about as many on MNIST; what they give is measured.
    """
    from keras_sae import sparsity  # here, so that --help need not wait for Keras

    fewer = {"k_start": min(AT_FIRST * active, units), "anneal": ANNEALED * examples}
    match name:
        case "top_k":
            return sparsity.TopK(active, **fewer)
        case "k_sparse":
            return sparsity.TopK(active, min(3 * active, units), relu=False, **fewer)  # as published
        case "batch_top_k":
            return sparsity.BatchTopK(active, **fewer)
        case "matryoshka":
            return sparsity.MatryoshkaBatchTopK(active, **fewer)
        case "jump_relu":
            return sparsity.JumpReLU(active)
        case "gated":
            return sparsity.Gated(48 / active)
        case "l1":
            return sparsity.L1(24 / active)
        case "winner_take_all":
            return sparsity.WinnerTakeAll(active / units)
        case "kl":
            return sparsity.KLSparsity(active / units, beta=None)


def check(config, classic, unused):
    """Raise ValueError unless other settings suit --sparsity.

    classic: the penalties that all settings suit.  unused: names of those settings that no method has.
    """
    if config.sparsity in classic:
        return
    name = f"--sparsity {config.sparsity}"
    cli.check(config.optimizer == "adam", name, "--optimizer adam beside it", config.optimizer)
    cli.check(config.cluster is None, name, "no --cluster beside it", config.cluster)
    for setting in unused:
        usual, given = getattr(type(config), setting), getattr(config, setting)
        cli.check(given == usual, f"--{setting.replace('_', '-')}", f"none beside {name}", given)
    smallest = min(config.units or (config.active + 1,))
    cli.check(1 <= config.active < smallest, "--active", "1 or more, and fewer than --units", config.active)


def autoencoder_of(method, active, units, name, examples):
    """Return an untrained autoencoder of a method, for a training on so many examples, a row counting in each epoch."""
    import keras_sae
    from keras_sae.sparsity import SparsityMethod

    method = method_of(method, active, units, examples)
    scaled = isinstance(method, SparsityMethod)
    return keras_sae.SparseAutoencoder(units, method, input_scale=scaled, name=name)


def autoencoders(config, rows):
    """Return the autoencoders of a stack for so many rows, by the method that is `config.sparsity`."""
    return [
        autoencoder_of(config.sparsity, config.active, units, f"layer_{number}", config.max_iterations * rows)
        for number, units in enumerate(config.units, 1)
    ]
