"""The established search for features in inputs alone: independent component analysis."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from polysem.interventions._objectives import excess_kurtosis
from polysem.interventions._view import View

ITERATIONS = 1000
TOLERANCE = 1e-6


def independent_components(
    view: View, room: Float[Tensor, "n_inst n n"], n_directions: int, generator: torch.Generator
) -> Float[Tensor, "n_inst n_directions n"]:
    """The least Gaussian components that scikit-learn's FastICA finds in each instance, among directions of a room."""
    try:
        from sklearn.decomposition import FastICA
        from sklearn.exceptions import ConvergenceWarning
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'objective "non_gaussian" needs scikit-learn: pip install "polysem[studies]"'
        ) from error
    found = []
    for index, space in enumerate(room):
        values, vectors = torch.linalg.eigh(space @ view.covariance[index] @ space)
        rank = round(float(space.trace()))
        whiten = vectors[:, -rank:] / values[-rank:].sqrt()
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        ica = FastICA(whiten=False, max_iter=ITERATIONS, tol=TOLERANCE, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ica.fit((view.centred[index] @ whiten).cpu().numpy())
        components = torch.from_numpy(ica.components_).to(whiten)
        u = normalize(components @ whiten.mT, dim=-1)
        order = excess_kurtosis(view.centred[index] @ u.mT).abs().argsort(descending=True)
        found.append(u[order[:n_directions]])
    return torch.stack(found)
