from ._expected import ExpectedLoss as ExpectedLoss
from ._expected import expected_loss as expected_loss
from ._model import Objective as Objective
from ._model import ToyModel as ToyModel
from ._quadratic import QuadraticModel as QuadraticModel
from ._quadratic import QuadraticObjective as QuadraticObjective
