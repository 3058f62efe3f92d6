"""JAX as anyone would write it: a jitted function of all rows and its gradient; Adam by hand, a jitted call a batch."""

import jax
import jax.numpy as jnp

from benchmarks.contenders import BETA, PRODUCTS, RHO, WEIGHT_DECAY, batches, initial_weights, median_epoch

PRECISIONS = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}


def cost(weights, x):
    w1, b1, w2, b2 = weights
    a = jax.nn.sigmoid(x @ w1 + b1)
    xhat, rho_hat = jax.nn.sigmoid(a @ w2 + b2), a.mean(0)
    kl = RHO * jnp.log(RHO / rho_hat) + (1 - RHO) * jnp.log((1 - RHO) / (1 - rho_hat))
    decay = jnp.square(w1).sum() + jnp.square(w2).sum()
    return 0.5 * jnp.square(xhat - x).sum(1).mean() + WEIGHT_DECAY / 2 * decay + BETA * kl.sum()


def objective(x, units, precision="float32"):
    weights, x = [jnp.asarray(w) for w in initial_weights(x.shape[1], units)], jnp.asarray(x)
    function = jax.jit(jax.value_and_grad(cost))

    def run():
        with jax.default_matmul_precision(PRECISIONS[precision]):
            value, _ = jax.block_until_ready(function(weights, x))
        return float(value)

    return run


@jax.jit
def adam_step(state, x, rows):
    weights, first, second, steps = state
    loss, gradients = jax.value_and_grad(cost)(weights, x[rows])
    steps = steps + 1
    first = [m + 0.1 * (g - m) for m, g in zip(first, gradients, strict=True)]
    second = [v + 0.001 * (g * g - v) for v, g in zip(second, gradients, strict=True)]
    rate = 1e-3 * jnp.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)
    weights = [w - rate * m / (jnp.sqrt(v) + 1e-8) for w, m, v in zip(weights, first, second, strict=True)]
    return (weights, first, second, steps), loss


def epoch(x, units, batch_size, precision="float32"):
    weights, x = [jnp.asarray(w) for w in initial_weights(x.shape[1], units)], jnp.asarray(x)
    zeros = [jnp.zeros_like(w) for w in weights]
    kept = {"state": (weights, zeros, zeros, jnp.zeros(()))}

    def one():
        total = jnp.zeros(())
        with jax.default_matmul_precision(PRECISIONS[precision]):
            for rows in batches(len(x), batch_size):
                kept["state"], loss = adam_step(kept["state"], x, rows)
                total += loss
        jax.block_until_ready((kept["state"], total))

    return lambda: median_epoch(one)


def product(rows, features, units, precision="float32"):
    keys = jax.random.split(jax.random.key(0))
    x, w = jax.random.normal(keys[0], (rows, features)), jax.random.normal(keys[1], (features, units))
    multiply = jax.jit(jnp.matmul)

    def run():
        with jax.default_matmul_precision(PRECISIONS[precision]):
            jax.block_until_ready([multiply(x, w) for _ in range(PRODUCTS)])

    return run
