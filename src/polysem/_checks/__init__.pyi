from ._numbers import require as require
from ._numbers import short as short
from ._numbers import whole as whole
from ._tensors import as_float64 as as_float64
from ._tensors import finite_rows as finite_rows
from ._tensors import floating as floating
from ._tensors import matrix as matrix
