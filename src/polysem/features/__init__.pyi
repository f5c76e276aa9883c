from ._importance import explicit as explicit
from ._importance import geometric as geometric
from ._importance import zipf as zipf
from ._slabs import SparseGaussian as SparseGaussian
from ._slabs import SparseLaplace as SparseLaplace
from ._slabs import SparseSign as SparseSign
from ._slabs import SparseUniform as SparseUniform
from ._sparse import SparseFeatures as SparseFeatures
