"""What a pickle of tensors may do, checked step by step before PyTorch's restricted unpickler takes it."""

import pickletools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polysem.networks._bytes import WeightFileError, first_line
from polysem.networks._zip import BoundedReader

_MOST_STEPS = 2_000_000
_DEEPEST = 100
_CALLED = frozenset(
    {
        "_codecs.encode",
        "builtins.complex",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        *(
            f"torch._utils._rebuild_{kind}"
            for kind in (
                "tensor",
                "tensor_v2",
                "tensor_v3",
                "parameter",
                "parameter_with_state",
                "sparse_tensor",
                "qtensor",
                "meta_tensor_no_storage",
            )
        ),
    }
)
"""What may be called: none of it takes memory beyond its arguments, as `bytearray(10**12)` would."""

_PUSHED = frozenset({"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINSTRING"})
_EMPTY = frozenset({"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"})
_ADDED = {"APPEND": 1, "SETITEM": 2, "APPENDS": 0, "SETITEMS": 0}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(slots=True)
class _Value:
    """As much as must be known of a value: how many items it has, how deep tuples nest in it, what is called by it."""

    size: int = 1
    depth: int = 0
    items: Sequence["_Value"] = ()
    name: str = ""


class _Machine:
    """The stack of the unpickler, with values that are not made."""

    def __init__(self) -> None:
        self.copied = 0
        self._stack: list[_Value] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Value] = {}

    def step(self, op: str, argument: object) -> None:
        stack = self._stack
        if op in _PUSHED:
            stack.append(_Value())
        elif op in _TEXTS:
            stack.append(_Value(len(str(argument))))
        elif op in _EMPTY:
            stack.append(_Value(0))
        elif op == "MARK":
            self._marks.append(len(stack))
        elif op in _ADDED:
            items = self._pop(_ADDED[op])
            stack[-1].size += len(items)
        elif op in _TUPLES or op == "TUPLE":
            items = self._pop(_TUPLES.get(op)) if op != "EMPTY_TUPLE" else []
            stack.append(_Value(len(items), 1 + max((item.depth for item in items), default=0), items))
            if stack[-1].depth > _DEEPEST:
                raise ValueError(f"tuples nested more than {_DEEPEST} deep")
        elif op in ("BINPUT", "LONG_BINPUT"):
            self._memo[int(str(argument))] = stack[-1]
        elif op in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[int(str(argument))])
        elif op == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            stack.append(_Value(name=f"{module.replace('__builtin__', 'builtins')}.{name}"))
        elif op in ("REDUCE", "NEWOBJ"):
            called, arguments = self._pop(2)
            if called.name not in _CALLED:
                raise ValueError(f"unsupported GLOBAL {called.name or 'something'}")
            size = sum(item.size for item in arguments.items)
            self.copied += size
            stack.append(_Value(size))
        elif op == "BUILD":
            self.copied += stack.pop().size
        elif op == "BINPERSID":
            stack[-1] = _Value()
        elif op not in ("PROTO", "STOP"):
            raise ValueError(f"opcode {op}")

    def _pop(self, n: int | None) -> list[_Value]:
        """The last n values, or those since the last mark if n is 0 or None."""
        start = len(self._stack) - n if n else self._marks.pop()
        if start < 0:
            raise IndexError("nothing is left on the stack")
        items = self._stack[start:]
        del self._stack[start:]
        return items


def check_pickle(pickle: bytes | BoundedReader, path: Path) -> None:
    """Read a pickle to its end without making anything; an error if unpickling could run, fill memory or never end."""
    machine = _Machine()
    try:
        for step, (op, argument, _) in enumerate(pickletools.genops(pickle)):
            machine.step(op.name, argument)
            if step + machine.copied > _MOST_STEPS:
                raise WeightFileError(f"{path}: its pickle takes more than {_MOST_STEPS} steps")
    except (ValueError, LookupError, AttributeError) as error:
        if isinstance(error, WeightFileError):
            raise
        raise WeightFileError(f"{path}: {pickle_problem(error)}") from error


def pickle_problem(error: Exception) -> str:
    """What is wrong, without the library's advice to load the file unsafely."""
    called = re.search(r"(?:Unsupported global:|unsupported) GLOBAL (\S+)", str(error))
    if called:
        return (
            f"its pickle calls {called[1]}, and code in a file is never run; "
            "save the state_dict() alone, or as safetensors"
        )
    said = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    return f"a damaged or truncated PyTorch file ({said[1] if said else first_line(error)})"
