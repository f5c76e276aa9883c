from ._bytes import WeightFileError as WeightFileError
from ._files import WeightFile as WeightFile
from ._files import load as load
from ._stored import StoredMatrix as StoredMatrix
