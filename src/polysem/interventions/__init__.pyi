from ._flatten import Flattened as Flattened
from ._flatten import flatten as flatten
from ._kappa import flattening_kappa as flattening_kappa
from ._penalty import CapacityPenalty as CapacityPenalty
