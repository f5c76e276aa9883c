"""Where the features of a network of one's own lie, layer by layer, and what more capacity is worth to them.

    python examples/layers_of_a_network.py

Trains a small network in plain PyTorch, prints what `returns.layers` measures in its hidden states before and after,
and writes `prices.html`: marginal benefit against capacity in the last state.
"""

import torch
from torch import Tensor, nn

from polysem import plots
from polysem.returns import equal_returns, layers

N_FEATURES, WIDTH, CHANCE, STEPS = 100, 20, 0.02, 600
IMPORTANCE = 1 / torch.arange(1, N_FEATURES + 1)


class Network(nn.Module):
    """Features, in a stream to which a block of neurons adds, read through a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(N_FEATURES, WIDTH)
        self.neurons = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.stream = nn.Identity()  # gives the sum below a name
        self.read = nn.Linear(WIDTH, N_FEATURES)
        nn.init.normal_(self.embed.weight, std=WIDTH**-0.5)
        self.read.weight.data.copy_(self.embed.weight.mT)
        nn.init.zeros_(self.read.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructed features."""
        h = self.embed(x)
        return torch.relu(self.read(self.stream(h + self.neurons(h))))


def draw(n: int) -> Tensor:
    """Features, uniform on [0, 1] when active."""
    return torch.rand(n, N_FEATURES) * (torch.rand(n, N_FEATURES) < CHANCE)


def losses(output: Tensor, x: Tensor) -> Tensor:
    """One for each feature of each sample."""
    return IMPORTANCE * (output - x).square()


def main() -> None:
    """Train, measure before and after, draw."""
    torch.manual_seed(0)
    network = Network()
    before = layers(network, draw(20_000), losses, ["embed", "stream"], per_feature=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(STEPS):
        x = draw(256)
        optimiser.zero_grad()
        losses(network(x), x).sum(-1).mean().backward()
        optimiser.step()
    after = layers(network, draw(20_000), losses, ["embed", "stream"], per_feature=True)
    for when, found in (("before", before), ("after", after)):
        for layer in found:
            total = float(layer.capacity.sum())
            print(f"{when:6} {layer.module:6} capacity {total:.1f} of {WIDTH}; {equal_returns(layer.prices).says}")
    plots.price_figure(equal_returns(after[-1].prices), title="After training").write_html("prices.html")


if __name__ == "__main__":
    main()
