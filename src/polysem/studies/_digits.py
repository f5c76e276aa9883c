"""Small networks that read handwritten digits, in stacks that are trained together."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from polysem.measure import NEGLIGIBLE_SQUARED_NORM, features_per_neuron

N_CLASSES = 10
TEST_SHARE = 0.25

Weights = dict[str, Tensor]
"""Parameters of a stack by name, each `[n_kappa, n_starts, ...]`."""


@dataclass(frozen=True)
class Images:
    """Handwritten digits, each start with a choice of its own.

    Attributes:
        x: brightness in [0, 1] of the pixels that vary `[n_starts, n_images, n_pixels]`.
        label: 0 to 9 `[n_starts, n_images]`.
    """

    x: Float[Tensor, "n_starts n_images n_pixels"]
    label: Int[Tensor, "n_starts n_images"]

    @property
    def one_hot(self) -> Float[Tensor, "n_starts n_images n_classes"]:
        """Classes as features."""
        return functional.one_hot(self.label, N_CLASSES).to(self.x)

    def select(self, places: Int[Tensor, "n_starts n_batch"]) -> "Images":
        """Some images of each start."""
        row = torch.arange(len(places))[:, None]
        return Images(self.x[row, places], self.label[row, places])


def load_digits(starts: int, generator: torch.Generator) -> tuple[Images, Images]:
    """scikit-learn's digits, split into training and test images anew for each start.

    Left out are pixels whose variance is below 1e-3 of the largest: they are dark in almost every image.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        message = "handwritten digits need scikit-learn: install polysem[studies]"
        raise ModuleNotFoundError(message, name="sklearn") from None
    pixels, label = datasets.load_digits(return_X_y=True)
    x, y = torch.from_numpy(pixels).float() / 16, torch.from_numpy(label).long()
    variance = x.var(0)
    x = x[:, variance >= NEGLIGIBLE_SQUARED_NORM * variance.max()]
    order = torch.stack([torch.randperm(len(x), generator=generator) for _ in range(starts)])
    first = round(TEST_SHARE * len(x))
    test, train = order[:, :first], order[:, first:]
    return Images(x[train], y[train]), Images(x[test], y[test])


class Reader(ABC):
    """A kind of network, and what its features are in the layer that they share.

    Args:
        scale: standard deviations of the pixels of the training images `[n_starts, n_pixels]`.
        width: of the shared layer.
        hidden: neurons of the layer before it, where there is one.
    """

    name: str
    features: str
    counts: str
    score: str

    def __init__(self, scale: Float[Tensor, "n_starts n_pixels"], width: int, hidden: int) -> None:
        self.scale, self.width, self.hidden = scale, width, hidden

    @abstractmethod
    def start(self, generator: torch.Generator) -> Weights:
        """Random weights, `n_kappa = 1`."""

    @abstractmethod
    def shared(self, weights: Weights, x: Tensor) -> Float[Tensor, "n_kappa n_starts n_images width"]:
        """Activations of the shared layer."""

    @abstractmethod
    def losses(self, z: Tensor, images: Images) -> Float[Tensor, "n_kappa n_starts"]:
        """Mean loss of outputs before their activation, summed over what is asked."""

    @abstractmethod
    def ignoring(self, images: Images) -> Float[Tensor, "n_starts n_asked"]:
        """Loss of the best constant answer to everything that is asked."""

    @abstractmethod
    def frame(self, weights: Weights, images: Images) -> tuple[Tensor, Tensor]:
        """Features in the shared layer and what reads them, both as rows `[n_kappa, n_starts, n_features, width]`."""

    def response(self, embedding: Tensor, readout: Tensor) -> Float[Tensor, "*batch n_features n_features"]:
        """How far each readout moves with each feature."""
        return readout @ embedding.mT

    def outputs(self, weights: Weights, x: Tensor) -> Tensor:
        """Outputs before their activation."""
        return _affine(self.shared(weights, x), weights["read"].mT, weights["bias"])

    def scores(self, z: Tensor, images: Images) -> Float[Tensor, "n_kappa n_starts"]:
        """Share of the images whose largest output is that of their class."""
        return (z.argmax(-1) == images.label).float().mean(-1)

    def count(self, weights: Weights, images: Images) -> Float[Tensor, "n_kappa n_starts"]:
        """Classes that a neuron of the shared layer answers to."""
        return mean_number(self.class_means(weights, images))

    def class_means(self, weights: Weights, images: Images) -> Float[Tensor, "n_kappa n_starts n_classes width"]:
        """Mean activations of the shared layer."""
        one_hot = images.one_hot
        number = one_hot.sum(-2).clamp(min=1)[..., None]
        return one_hot.mT @ self.shared(weights, images.x) / number

    def drawn(self, generator: torch.Generator, inputs: int, outputs: int, gain: float = 1.0) -> Tensor:
        """Weights of a layer, `[1, n_starts, inputs, outputs]`, of variance `gain / inputs`."""
        return torch.randn((1, len(self.scale), inputs, outputs), generator=generator) * math.sqrt(gain / inputs)

    def filled(self, n: int, value: float = 0.0) -> Tensor:
        """Biases `[1, n_starts, n]`."""
        return torch.full((1, len(self.scale), n), value)


class WideClassifier(Reader):
    """Pixels, one ReLU layer with room for all of them, ten logits."""

    name, features, counts, score = "wide classifier", "pixels", "classes per hidden neuron", "accuracy"

    def start(self, generator: torch.Generator) -> Weights:
        """Random weights."""
        return {
            "embed": self.drawn(generator, self.scale.shape[-1], self.width, gain=2),
            "offset": self.filled(self.width),
            "read": self.drawn(generator, self.width, N_CLASSES).mT.contiguous(),
            "bias": self.filled(N_CLASSES),
        }

    def shared(self, weights: Weights, x: Tensor) -> Tensor:
        """The hidden neurons."""
        return _affine(x, weights["embed"], weights["offset"]).relu()

    def losses(self, z: Tensor, images: Images) -> Tensor:
        """Cross entropy."""
        own = z.gather(-1, images.label.expand(z.shape[:-1])[..., None])[..., 0]
        return (z.logsumexp(-1) - own).mean(-1)

    def ignoring(self, images: Images) -> Tensor:
        """One question: the entropy of the classes."""
        return _entropy(images.one_hot.mean(-2)).sum(-1, keepdim=True)

    def frame(self, weights: Weights, images: Images) -> tuple[Tensor, Tensor]:
        """Weights from each pixel, times its standard deviation; nothing else reads them."""
        rows = weights["embed"] * self.scale[..., None]
        return rows, rows


class NarrowClassifier(Reader):
    """Pixels, a wide ReLU layer, fewer ReLU neurons than classes, and one yes-or-no question for each class."""

    name, features, counts, score = "narrow classifier", "classes", "classes per bottleneck neuron", "accuracy"

    def start(self, generator: torch.Generator) -> Weights:
        """Random weights; answers begin at the share of a class, or the neurons would be driven to silence."""
        return {
            "first": self.drawn(generator, self.scale.shape[-1], self.hidden, gain=2),
            "first_offset": self.filled(self.hidden),
            "embed": self.drawn(generator, self.hidden, self.width, gain=2),
            "offset": self.filled(self.width, 0.1),
            "read": self.drawn(generator, self.width, N_CLASSES).mT.contiguous(),
            "bias": self.filled(N_CLASSES, -math.log(N_CLASSES - 1)),
        }

    def shared(self, weights: Weights, x: Tensor) -> Tensor:
        """The neurons of the bottleneck."""
        hidden = _affine(x, weights["first"], weights["first_offset"]).relu()
        return _affine(hidden, weights["embed"], weights["offset"]).relu()

    def losses(self, z: Tensor, images: Images) -> Tensor:
        """Logistic losses, summed over classes."""
        return (functional.softplus(z) - images.one_hot * z).sum(-1).mean(-1)

    def ignoring(self, images: Images) -> Tensor:
        """Entropy of each question."""
        share = images.one_hot.mean(-2)
        return _entropy(share) + _entropy(1 - share)

    def frame(self, weights: Weights, images: Images) -> tuple[Tensor, Tensor]:
        """Mean activations over the images of each class, and what reads the class."""
        return self.class_means(weights, images), weights["read"]

    def response(self, embedding: Tensor, readout: Tensor) -> Tensor:
        """Logits less their mean over the other classes: what these have in common the bias takes away."""
        z = readout @ embedding.mT
        own = z.diagonal(dim1=-2, dim2=-1)
        others = (z.sum(-1) - own) / (z.shape[-1] - 1)
        return z - others[..., None]


class TiedAutoencoder(Reader):
    """Pixels, a linear code with fewer dimensions, and pixels again by the same weights, behind a ReLU."""

    name, features, counts, score = "tied autoencoder", "pixels", "outputs moved by a pixel", "explained variance"

    def start(self, generator: torch.Generator) -> Weights:
        """Random weights."""
        n = self.scale.shape[-1]
        return {"read": self.drawn(generator, n, self.width), "bias": self.filled(n)}

    def embed(self, weights: Weights) -> Tensor:
        """Pixels as rows."""
        return weights["read"]

    def shared(self, weights: Weights, x: Tensor) -> Tensor:
        """The code."""
        return x @ self.embed(weights)

    def losses(self, z: Tensor, images: Images) -> Tensor:
        """Squared errors, summed over pixels."""
        return (z.relu() - images.x).square().sum(-1).mean(-1)

    def ignoring(self, images: Images) -> Tensor:
        """Variance of each pixel."""
        return images.x.var(-2, correction=0)

    def frame(self, weights: Weights, images: Images) -> tuple[Tensor, Tensor]:
        """Rows of the embedding, times the pixels' standard deviations, and of the readout."""
        return self.embed(weights) * self.scale[..., None], weights["read"]

    def scores(self, z: Tensor, images: Images) -> Tensor:
        """Share of the variance that outputs explain."""
        return 1 - self.losses(z, images) / self.ignoring(images).sum(-1)

    def count(self, weights: Weights, images: Images) -> Tensor:
        """Outputs that move, ReLU and all, when a pixel takes the value that it has in another image."""
        z = self.outputs(weights, images.x)
        before, embed = z.relu(), self.embed(weights)
        change = images.x.roll(1, -2) - images.x
        moved = []
        for k in range(images.x.shape[-1]):
            path = (weights["read"] @ embed[..., k, :, None]).mT
            moved.append((torch.addcmul(z, change[..., k : k + 1], path).relu() - before).square().mean(-2).sqrt())
        return mean_number(torch.stack(moved, -1))


class UntiedAutoencoder(TiedAutoencoder):
    """The same with weights of their own for the readouts, which start as those of the embedding."""

    name = "untied autoencoder"

    def start(self, generator: torch.Generator) -> Weights:
        """Random weights."""
        tied = super().start(generator)
        return {"embed": tied["read"].clone(), **tied}

    def embed(self, weights: Weights) -> Tensor:
        """Pixels as rows."""
        return weights["embed"]


def mean_number(drive: Float[Tensor, "*batch n_features n_neurons"]) -> Float[Tensor, "*batch"]:
    """Mean of `features_per_neuron`, neurons weighted by their squared responses; 0 where none responds."""
    energy = drive.square().sum(-2)
    return (features_per_neuron(drive) * energy).sum(-1) / energy.sum(-1).clamp(min=torch.finfo(energy.dtype).tiny)


def _entropy(share: Tensor) -> Tensor:
    return -torch.xlogy(share, share)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x @ weight + bias[..., None, :]
