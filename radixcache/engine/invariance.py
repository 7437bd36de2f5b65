"""How a step's rows are padded for a model's products to give every row the same bits always."""

from __future__ import annotations

import math

from torch import nn

from radixcache.engine.cpu.products import Product
from radixcache.numerics.products import product_rule


def row_multiple(model: nn.Module) -> int | None:
    """The multiple that a step's rows are padded to, by the rules of the model's products on this machine.

    Returns:
        The least common multiple of what the rules ask for, 1 if any number of rows will do; None if there is
        a product without a rule: outputs may then differ by rounding from batch to batch.
    """
    multiple = 1
    for module in model.modules():
        if isinstance(module, Product):
            rule = module.rule
        elif type(module) is nn.Linear:
            weight = module.weight
            rule = product_rule(weight.shape[1], weight.shape[0], weight.dtype, packed=False)
        else:
            continue
        if rule is None:
            return None
        multiple = math.lcm(multiple, rule.least)
    return multiple
