from ._config import FitConfig as FitConfig
from ._fit import Fit as Fit
from ._fit import FitStatus as FitStatus
from ._fit import fit as fit
