from ._analyze import Analysis as Analysis
from ._analyze import analyze as analyze
from ._bytes import WeightFileError as WeightFileError
from ._files import WeightFile as WeightFile
from ._files import load as load
from ._modules import ModuleMatrix as ModuleMatrix
from ._modules import module_matrices as module_matrices
from ._stored import StoredMatrix as StoredMatrix
