"""A loss function in JAX and its tree of parameters, trained by parameter servers.

    dualshard train --model examples/jax_mlp.py:build

Needs JAX: pip install 'dualshard[jax]'. `loss` is compiled with its gradient once a process.
"""

import jax
import jax.numpy as jnp


def build(inputs: int, classes: int, hidden: int = 64):
    """The pair (init, loss) for this data."""

    def init(key):
        one, two = jax.random.split(key)
        return {
            "hidden": dense(one, inputs, hidden),
            "output": dense(two, hidden, classes),
        }

    return init, loss


def dense(key, inputs, outputs):
    scale = (2 / inputs) ** 0.5
    kernel = scale * jax.random.normal(key, (inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def loss(tree, inputs, labels):
    """The mean cross-entropy, and the outputs that the accuracy is measured from."""
    flat = inputs.reshape(len(inputs), -1)
    units = jax.nn.relu(flat @ tree["hidden"]["kernel"] + tree["hidden"]["bias"])
    outputs = units @ tree["output"]["kernel"] + tree["output"]["bias"]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1)
    return -chosen.mean(), outputs
