"""What an analysis says of features and their partners, and its dataset: against loops over the matrices."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
import xarray
from torch import Tensor, nn
from torch.testing import assert_close

import reference
from polysem.networks import Analysis, Measured, analyze, read_labels

LABELS = tuple("abcdefghij")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 8), nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU()))


@pytest.fixture(scope="module")
def analysis(network: nn.Module) -> Analysis:
    return analyze(network, labels={"0.weight": LABELS}, draws=3, seed=1)


def test_every_layer_is_read_as_it_reads_and_as_it_writes(analysis: Analysis, network: nn.Module) -> None:
    conv = network[2][0].weight.detach()
    expected = {
        "0.weight": (0, "Embedding", "writes", network[0].weight),
        "1.weight (reads)": (1, "Linear", "reads", network[1].weight),
        "1.weight (writes)": (1, "Linear", "writes", network[1].weight.mT),
        "2.0.weight (reads)": (2, "Conv2d", "reads", conv.reshape(5, 36)),
        "2.0.weight (writes)": (2, "Conv2d", "writes", conv.transpose(0, 1).reshape(4, 45)),
    }
    assert (analysis.source, analysis.family, analysis.notes) == ("Sequential", None, ())
    assert [one.name for one in analysis] == list(expected)
    for one, (layer, kind, stream, W) in zip(analysis, expected.values(), strict=True):
        assert (one.layer, one.kind, one.stream) == (layer, kind, stream)
        assert one is analysis[one.name]
        assert_close(one.report.capacity, reference.capacity(W.detach().double()), rtol=1e-6, atol=1e-12)
        assert len(one.report.isotropic.totals) == 3
    assert analysis.of_kind("Conv2d", "writes") == (analysis["2.0.weight (writes)"],)


def test_the_null_of_a_feature_is_that_of_random_directions() -> None:
    """For many features: among random directions of the same norms, interference is its mean."""
    norms = torch.linspace(0.5, 2, 3000).double()
    drawn = torch.randn(3000, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = nn.Embedding.from_pretrained(drawn / drawn.norm(dim=1, keepdim=True) * norms[:, None])
    (one,) = analyze(layer, draws=2)
    assert_close(one.null, one.report.capacity, rtol=0.12, atol=0)
    assert_close(one.null.sum(), torch.tensor(one.report.isotropic.mean).double(), rtol=0.01, atol=0)
    loops = [norms[i] ** 2 / (norms[i] ** 2 + (norms.square().sum() - norms[i] ** 2) / 40) for i in (0, 2999)]
    assert_close(one.null[[0, 2999]], torch.stack(loops))


def test_partners_are_those_with_the_largest_overlaps(analysis: Analysis, network: nn.Module) -> None:
    W = network[0].weight.detach().double()
    overlap = (W @ W.mT).square()
    for feature in (0, 7):
        found = analysis.partners("0.weight", feature, k=4)
        others = sorted((j for j in range(10) if j != feature), key=lambda j: -float(overlap[feature, j]))[:4]
        assert [partner.index for partner in found] == others
        assert [partner.label for partner in found] == [LABELS[j] for j in others]
        for partner in found:
            j = partner.index
            assert partner.share == pytest.approx(float(overlap[feature, j] / overlap[feature].sum()), rel=1e-9)
            assert partner.cosine == pytest.approx(float(torch.cosine_similarity(W[feature], W[j], dim=0)), rel=1e-9)
    assert analysis.partners("0.weight", "h", k=4) == analysis.partners("0.weight", 7, k=4)
    assert len(analysis.partners("0.weight", 0, k=100)) == 9


def test_partners_follow_the_norm_policy(network: nn.Module) -> None:
    W = network[1].weight.detach().double()
    W = W / W.norm(dim=1, keepdim=True)
    found = analyze(network, norm="unit", draws=2).partners("1.weight (reads)", 0, k=7)
    expected = (W @ W[0]).square()[[partner.index for partner in found]] / (W @ W[0]).square().sum()
    assert_close(torch.tensor([partner.share for partner in found]).double(), expected)


def test_most_and_least_pure(analysis: Analysis) -> None:
    report = analysis["0.weight"].report
    order = sorted(range(10), key=lambda i: float(report.capacity[i]))
    assert [feature.index for feature in analysis.least_pure("0.weight", 3)] == order[:3]
    most = analysis.most_pure("0.weight", 30)
    assert [feature.index for feature in most] == order[::-1]
    ratio = (report.capacity / analysis["0.weight"].null).tolist()
    assert analysis.most_pure("0.weight", 1, relative=True)[0].index == ratio.index(max(ratio))
    assert analysis.least_pure("0.weight", 1, relative=True)[0].index == ratio.index(min(ratio))
    first = most[0]
    assert (first.matrix, first.label, first.head) == ("0.weight", LABELS[order[-1]], None)
    assert first.capacity == float(report.capacity.max())
    assert first.norm == float(report.row_norm[order[-1]])
    assert first.null == float(analysis["0.weight"].null[order[-1]])


def test_zero_rows_are_neither() -> None:
    W = torch.eye(4, 3)
    (one,) = analyze(nn.Embedding.from_pretrained(W), draws=2)
    assert {feature.index for feature in one.least_pure()} == {0, 1, 2}
    assert one.null.tolist()[3] == 0


def test_the_dataset(analysis: Analysis) -> None:
    found = analysis.dataset()
    assert dict(found.sizes) == {"feature": 10 + 8 + 6 + 5 + 4, "matrix": 5}
    start = 0
    for position, one in enumerate(analysis):
        n = one.report.n_features
        part, matrix = found.isel(feature=slice(start, start + n)), found.isel(matrix=position)
        for name, expected in (
            ("capacity", one.report.capacity),
            ("leverage", one.report.leverage),
            ("norm", one.report.row_norm),
            ("null", one.null),
            ("index", torch.arange(n)),
        ):
            assert_close(torch.from_numpy(part[name].values), expected, rtol=0, atol=0)
        assert set(part["of"].values) == {one.name} == {str(matrix["matrix"].values)}
        assert set(part["layer"].values) == {one.layer} == {int(matrix["matrix_layer"])}
        assert set(part["stream"].values) == {one.stream}
        assert set(part["head"].values) == {-1}
        assert float(matrix["total"]) == one.report.total
        assert float(matrix["total_per_dimension"]) == one.report.total / one.report.d_hidden
        assert (float(matrix["isotropic_low"]), float(matrix["isotropic_high"])) == one.report.interval
        assert float(matrix["covariance_mean"]) == one.report.covariance.mean
        assert int(matrix["n_ignored"] + matrix["n_impure"] + matrix["n_pure"]) == n
        start += n
    assert list(found["label"].values) == [*LABELS, *[""] * 23]
    frame = found[["capacity"]].to_dataframe()
    assert frame[frame["kind"] == "Conv2d"].shape[0] == 9


def test_a_dataset_is_saved_and_read_again(analysis: Analysis, tmp_path: Path) -> None:
    analysis.dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)
    again = xarray.open_zarr(tmp_path / "a.zarr", consolidated=False).load()
    xarray.testing.assert_identical(again, analysis.dataset())


@pytest.mark.bad_input
def test_features_that_are_not_there(analysis: Analysis) -> None:
    one = analysis["0.weight"]
    with pytest.raises(KeyError, match="no measured matrix '0.weigh'; there are '0.weight'"):
        analysis["0.weigh"]
    for feature, said in ((10, "less than the 10 features"), (-1, "at least 0"), ("k", "the label of one feature")):
        with pytest.raises(ValueError) as caught:
            one.partners(feature)
        assert said in str(caught.value)
    with pytest.raises(ValueError, match="has no labels"):
        analysis.partners("1.weight (reads)", "a")
    with pytest.raises(ValueError, match="k must be"):
        one.partners(0, k=0)
    twice = Measured("W", None, "matrix", None, (10, 6), "rows", one.report, ("a",) * 10)
    with pytest.raises(ValueError, match="the label of one feature of W, not 10"):
        twice.index("a")
    with pytest.raises(ValueError, match="without its rows"):
        twice.partners(0)


@pytest.mark.bad_input
def test_labels_of_a_network_without_tokens(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="labels must be a mapping from names of matrices: Sequential has no tokens"):
        analyze(network, labels=LABELS)
    with pytest.raises(ValueError, match="tensor must be left out"):
        analyze(network, "0.weight")
    with pytest.raises(ValueError, match="must have linear, convolutional or embedding layers, got ReLU"):
        analyze(nn.ReLU())


@pytest.fixture(scope="module")
def minilm(minilm_file: Path) -> Analysis:
    return analyze(minilm_file, labels=read_labels(minilm_file.parent / "vocab.txt"), draws=2)


def test_a_real_language_encoder(minilm: Analysis, minilm_file: Path) -> None:
    """Six layers; its words share directions with words that go together."""
    assert minilm.family == "BERT"
    assert [one.kind for one in minilm][:6] == [
        "token embedding",
        "position embedding",
        "attention in",
        "attention out",
        "MLP in",
        "MLP out",
    ]
    assert len(minilm) == 2 + 4 * 6
    found = minilm.partners("embeddings.word_embeddings.weight", "king", k=3)
    assert [partner.label for partner in found] == ["kings", "queen", "prince"]
    stored = safetensors.torch.load_file(minilm_file)
    attended = minilm.of_kind("attention out")[3]
    assert (attended.n_heads, attended.feature(33).head) == (12, 1)
    before = "encoder.layer.3.attention."
    assert_directions(attended, stored[f"{before}self.value.weight"], stored[f"{before}output.dense.weight"])
    totals = minilm.dataset().set_index(matrix=["matrix_kind", "matrix_layer"])["total_per_dimension"]
    assert float(totals.sel(matrix=("MLP out", 0))) == pytest.approx(0.622, abs=1e-3)


def assert_directions(measured: Measured, value: Tensor, output: Tensor) -> None:
    """Norms of the directions are the singular values of each head's map."""
    for head in (0, 11):
        part = slice(32 * head, 32 * head + 32)
        whole = output[:, part].double() @ value[part].double()
        assert_close(measured.report.row_norm[part], torch.linalg.svdvals(whole)[:32], rtol=1e-5, atol=1e-6)


class _ONet(nn.Module):
    """The last stage of MTCNN as `facenet-pytorch` builds it, without its import of torchvision."""

    def __init__(self) -> None:
        super().__init__()
        for number, (n_in, n_out, kernel) in enumerate([(3, 32, 3), (32, 64, 3), (64, 64, 3), (64, 128, 2)], 1):
            self.add_module(f"conv{number}", nn.Conv2d(n_in, n_out, kernel))
            self.add_module(f"prelu{number}", nn.PReLU(n_out))
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)


def test_a_real_vision_network(onet_file: Path) -> None:
    """Filters of every convolution interfere more than random ones; no layer has a pure one."""
    network = _ONet()
    network.load_state_dict(torch.load(onet_file, weights_only=True))
    found = analyze(network, draws=4)
    assert len(found) == 2 * 8
    assert found["conv4.weight (reads)"].report.d_hidden == 64 * 2 * 2
    below = [one.report.total < one.report.interval[0] for one in found]
    assert all(below)
    assert all(one.report.capacity.max() < 0.95 for one in found)


def test_a_real_readout(ocr_file: Path) -> None:
    """6,625 classes of characters in R^120, far below random directions; partners look alike."""
    (one,) = analyze(ocr_file, "linear_85.w_0", features="columns", labels=read_labels(ocr_file), draws=2)
    assert one.report.total / 120 == pytest.approx(0.163, abs=5e-4)
    assert one.report.null / 120 == pytest.approx(0.979, abs=1e-3)
    assert one.partners("个", k=1)[0].label == "個"
