"""The weights of the loss together with its temperatures: a temperature changes how much its term weighs."""

from tune_spaces import loss_weights, temperatures

SPACE = {**loss_weights.SPACE, **temperatures.SPACE}
