"""Which rows of your own data are trained on, which are held out, and which of them have a label."""

import numpy as np

from keras_sae.data.containers import RowSubset

HELD_OUT = 10  # one row in so many
IN_MEMORY = 2**28  # bytes of float32 rows


def split(number, seed, y=None):
    """Return the indices of the rows to train on and of those held out, one in HELD_OUT at random; both sorted.

    y: class numbers, (examples,), or None. Of the rows with a label, and of those without, one in HELD_OUT each.
    """
    known = np.ones(number, bool) if y is None else y >= 0
    random, held_out = np.random.default_rng(seed), np.zeros(number, bool)
    for rows in filter(len, (np.flatnonzero(known), np.flatnonzero(~known))):
        held_out[rows[random.permutation(len(rows))[: max(1, len(rows) // HELD_OUT)]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def pick(x, rows):
    """Return these rows of x: in memory if they are few, else a view that reads them when they are needed."""
    view = RowSubset(x, rows)
    bytes_in_memory = 4 * view.shape[0] * view.shape[1]
    return np.asarray(x[rows]) if bytes_in_memory <= IN_MEMORY else view


def labelled(rows, chosen):
    """Return (inputs, class numbers) of those of the chosen rows that have a label."""
    chosen = chosen[rows.y[chosen] >= 0]
    return pick(rows.x, chosen), rows.y[chosen]
