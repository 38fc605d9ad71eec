"""Weights that the loss does not depend on: they are told so before training, not found out at every step."""

from __future__ import annotations

from torch import Tensor, nn


def unused_parameters(module: nn.Module, loss: Tensor) -> list[str]:
    """Names of the trainable parameters of a module that a loss cannot reach, from a walk over its graph.

    ABINet's language classifier, for instance, has no part in the distilled logits. Data-parallel training waits for
    the gradient of every parameter that asks for one, so these must not ask.

    Args:
        loss: scalar, computed with the module.
    """
    reached: set[int] = set()
    seen = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in reached]
