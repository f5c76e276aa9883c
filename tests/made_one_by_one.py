"""A small run of all treatments, which several tests look at."""

from functools import cache

from polysem.studies import OneByOneConfig, OneByOneResult, one_by_one

CONFIG = OneByOneConfig(
    n_features=4,
    d_hidden=2,
    restarts=2,
    round_steps=30,
    flatten_steps=60,
    at_once=(1, 4),
    relu_features=2,
    relu_hidden=1,
    relu_restarts=1,
    relu_steps=4,
    batch_size=8,
)


@cache
def made_one_by_one() -> OneByOneResult:
    """The result of that run; every session makes it once."""
    return one_by_one(CONFIG)
