"""How sure a share of a few trials is."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

NORMAL_95 = 1.959963984540054


def wilson(
    successes: Int[Tensor, "*batch"], trials: Int[Tensor, "*batch"] | int
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    r"""Give the 95 % interval of a probability from how often something happened.

        (p + z²/2n ± z √(p (1 - p) / n + z²/4n²)) / (1 + z²/n)

    Args:
        successes: how often it happened.
        trials: of how many, at least 1.

    Returns:
        Lower and upper end, in [0, 1].

    Example:
        >>> low, high = wilson(torch.tensor(20), 20)
        >>> round(low.item(), 3), round(high.item(), 3)
        (0.839, 1.0)

    Source: Wilson 1927.
    """
    n = torch.as_tensor(trials, dtype=torch.float64)
    p, spread = successes / n, NORMAL_95**2 / n
    half = (NORMAL_95 * (p * (1 - p) / n + spread / (4 * n)).sqrt()) / (1 + spread)
    middle = (p + spread / 2) / (1 + spread)
    return (middle - half).clamp(0, 1), (middle + half).clamp(0, 1)
