from ._curve import curve as curve
from ._result import Curves as Curves
from ._result import CurveStatus as CurveStatus
from ._result import Returns as Returns
from ._samples import Samples as Samples
