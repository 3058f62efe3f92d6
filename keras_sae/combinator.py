"""How a ladder network makes of what comes from above and from the side what a unit would be without noise."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_sae")
class Combinator(keras.layers.Layer):
    """A network of 3, 2, 2 and 1 units for each of many pairs (lateral z, u from above): from z, u and z u.

    Its hidden units are leaky, x or x/10; kernels start with a deviation of 0.025, biases at 0.

    Reference: Pezeshki et al. 2016, "Deconstructing the Ladder Network Architecture", section 3.3, AMLP.
    """

    def build(self, input_shape: tuple) -> None:
        width = input_shape[0][-1]
        normal = keras.initializers.RandomNormal(stddev=0.025)
        sizes = [(3, 2), (2, 2), (2, 1)]
        self.kernels = [
            self.add_weight(shape=(*size, width), initializer=normal, name=f"kernel_{number}")
            for number, size in enumerate(sizes)
        ]
        self.biases = [
            self.add_weight(shape=(size[1], width), initializer="zeros", name=f"bias_{number}")
            for number, size in enumerate(sizes)
        ]

    def call(self, inputs: list) -> Any:
        z, u = inputs
        values = [u, z, u * z]
        for number, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            outputs = [
                bias[column] + sum(value * kernel[row, column] for row, value in enumerate(values))
                for column in range(bias.shape[0])
            ]
            values = outputs if number == 2 else [ops.leaky_relu(output, 0.1) for output in outputs]
        return values[0]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape[0]
