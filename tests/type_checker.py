"""The run-time checks of shapes and types of the test run."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as static type checkers have it
_whole = jaxtyping.jaxtyped


def jaxtyped(fn: Any = None, *, typechecker: Callable) -> Any:
    """`jaxtyping.jaxtyped` with the same checks at less cost, which is most of the time of small functions.

    That one checks arguments twice, and keeps account of sizes of dimensions also where no shapes are stated. Classes,
    and functions some of whose annotations are text, are left to it.
    """
    if fn is None:
        return partial(jaxtyped, typechecker=typechecker)
    stated = getattr(fn, "__annotations__", {}).values()
    if inspect.isclass(fn) or any(map(_has_text, stated)):
        return _whole(fn, typechecker=typechecker)
    if not stated:
        return fn
    checked = typechecker(fn)
    if any("jaxtyping" in repr(one) for one in stated):
        checked = _whole(checked, typechecker=None)

    @wraps(fn)
    def either(*args: Any, **kwargs: Any) -> Any:
        return (fn if jaxtyping.config.jaxtyping_disable else checked)(*args, **kwargs)

    return either


def _has_text(hint: Any) -> bool:
    """Whether a class stands in an annotation by its name, which may be imported for static checkers alone."""
    if isinstance(hint, str | ForwardRef):
        return True
    inner = hint if isinstance(hint, list) else get_args(hint)  # a list: the arguments of a Callable
    return get_origin(hint) is not Literal and any(map(_has_text, inner))


def install() -> None:
    """Check every function of polysem that is imported from now on."""
    jaxtyping.jaxtyped = jaxtyped  # what the import hook decorates functions with
    jaxtyping.install_import_hook("polysem", "type_checker.check")
