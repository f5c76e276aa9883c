from ._config import FitConfig as FitConfig
from ._fit import fit as fit
from ._mask import Restricted as Restricted
from ._newton import Polished as Polished
from ._newton import newton as newton
from ._problem import Penalty as Penalty
from ._result import Fit as Fit
from ._result import FitStatus as FitStatus
