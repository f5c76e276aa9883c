"""How expected losses in closed form move with the interference that each readout sees."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.features import SparseFeatures
from polysem.zoo import Autoencoder, QuadraticModel, ToyModel, UntiedAutoencoder


def exact_slopes(model: ToyModel, features: SparseFeatures, importance: object) -> Float[Tensor, "n_inst n_features"]:
    """`-2 dL/ds_i = Σ_{j≠i} R_ij dL/dR_ij` of a model whose expected loss has a closed form."""
    if isinstance(model, QuadraticModel):
        model.objective(features, importance)  # the price depends on neither, but both must fit
        G = model.response().detach().double()
        interference = G.square().sum(-1) - G.diagonal(dim1=-2, dim2=-1).square()
        return 4 * interference
    if isinstance(model, Autoencoder):
        R, b = model.response().detach().double(), model.b.detach().double()
        free = UntiedAutoencoder(model.n_features, model.n_features, n_inst=model.n_inst, activation=model.activation)
        free.load_state_dict({"W": torch.eye(model.n_features).expand_as(R), "V": R, "b": b})
        free.to(R.device)
        (slope,) = torch.autograd.grad(free.exact_loss(features, importance).sum(), free.V)
        return (R * slope).sum(-1) - (R * slope).diagonal(dim1=-2, dim2=-1)
    raise ValueError(f"batch must be samples: there is no exact loss for {model}, got {type(features).__name__}")
