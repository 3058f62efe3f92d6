"""The methods of sparsity that commands take by name, and dictionaries of them."""

from . import cli

# What --active sets, more or less; "l1" in train.mnist is the classic penalty, so it is not among them.
BY_ACTIVE = ("top_k", "k_sparse", "batch_top_k", "matryoshka", "jump_relu", "gated", "winner_take_all")
METHODS = (*BY_ACTIVE, "l1", "kl")
HELP = "; or a method of keras_sae.sparsity, by which about --active units are active (--optimizer adam)"


def method_of(name, active, units):
    """Return the method of this name with about so many active units of an example.

    The weights of L1 and of the gates are what gives about as many on MNIST; what they give is measured.
    """
    from keras_sae import sparsity  # here, so that --help need not wait for Keras

    match name:
        case "top_k":
            return sparsity.TopK(active)
        case "k_sparse":
            return sparsity.TopK(active, min(3 * active, units), relu=False)  # as published
        case "batch_top_k":
            return sparsity.BatchTopK(active)
        case "matryoshka":
            return sparsity.MatryoshkaBatchTopK(active)
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


def check(config, classic):
    """Raise ValueError unless other settings suit --sparsity. classic: the penalties that they all suit."""
    if config.sparsity in classic:
        return
    name = f"--sparsity {config.sparsity}"
    cli.check(config.optimizer == "adam", name, "--optimizer adam beside it", config.optimizer)
    cli.check(config.cluster is None, name, "no --cluster beside it", config.cluster)
    smallest = min(config.units or (config.active + 1,))
    cli.check(1 <= config.active < smallest, "--active", "1 or more, and fewer than --units", config.active)


def dictionaries(config):
    """Return the autoencoders of a stack, by the method of `config.sparsity`."""
    import keras_sae

    return [
        keras_sae.SparseAutoencoder(
            units, method_of(config.sparsity, config.active, units), input_scale=True, name=f"layer_{number}"
        )
        for number, units in enumerate(config.units, 1)
    ]
