"""Paths on the Hugging Face hub, against a stand-in that speaks the part of its protocol that downloads use."""

import hashlib
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.testing import assert_close

from polysem.networks import WeightFileError, load
from polysem.networks._hub import local

constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")

MAIN, OLD = "1" * 40, "0" * 40
W = torch.arange(12.0).reshape(3, 4)


class Hub(ThreadingHTTPServer):
    """The repository us/toy with two revisions, a gated one, and none else."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.folders = {MAIN: folder / "main", OLD: folder / "old"}
        self.asked: list[str] = []

    def files(self, commit: str) -> list[str]:
        folder = self.folders[commit]
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def fetched(self) -> list[str]:
        """The files downloaded since last asked."""
        fetched = sorted(path.split("/", 5)[5] for path in self.asked)
        self.asked.clear()
        return fetched


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        parts = self.path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repo, rest = ("/".join(parts[2:4]), parts[5:]) if api else ("/".join(parts[:2]), parts[3:])
        revision = rest[0] if rest else "main"
        commit = {"main": MAIN, MAIN: MAIN, "v0": OLD}.get(revision)
        if repo == "us/broken":
            self.say(500, b"")
        elif repo == "us/gated" and not api:
            self.say(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask"})
        elif repo not in ("us/toy", "us/gated"):
            self.say(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif commit is None:
            self.say(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif api:
            siblings = [{"rfilename": name} for name in self.server.files(commit)]
            self.say(200, json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode())
        else:
            content = (self.server.folders[commit] / "/".join(rest[1:])).read_bytes()
            tag = hashlib.sha256(content).hexdigest()
            if self.command == "GET":
                self.server.asked.append(self.path)
            self.say(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": commit})

    def say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def ask_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does before the library is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A sharded model, a SAE in a folder, loose files; an older revision; an empty cache."""
    main, old = tmp_path / "main", tmp_path / "old"
    (main / "sae" / "layer_3").mkdir(parents=True)
    (main / "loose").mkdir()
    old.mkdir()
    names = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    for name, shard in names.items():
        safetensors.torch.save_file({name: W}, main / shard)
    (main / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    torch.save({"a": W, "b": W}, main / "pytorch_model.bin")
    for name in ("config.json", "tokenizer.json", "README.md"):
        (main / name).write_text("{}")
    (main / "sae" / "layer_3" / "cfg.json").write_text("{}")
    np.savez(main / "sae" / "layer_3" / "params.npz", W_dec=W.numpy())
    np.save(main / "loose" / "x.npy", W.numpy())
    np.save(main / "loose" / "y.npy", W.numpy())
    np.save(old / "w.npy", -W.numpy())
    with Hub(tmp_path) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        ask_at(server.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server
        server.shutdown()
        thread.join()


def test_only_what_is_needed_is_downloaded_and_only_once(hub: Hub) -> None:
    for _ in range(2):
        file = load("hf://us/toy")
        assert list(file) == ["a", "b"]
        assert_close(file["b"].tensor(), W)
        downloaded = hub.fetched()
        if downloaded:
            first = downloaded
    assert first == ["config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"]
    assert downloaded == []
    assert file.path == local("hf://us/toy")
    assert load("hf://us/toy/pytorch_model.bin@main").format == "torch"
    assert hub.fetched() == ["pytorch_model.bin"]


def test_folders_and_files_below(hub: Hub) -> None:
    folder = local("hf://us/toy/sae/layer_3", endpoint=hub.endpoint)
    assert sorted(path.name for path in folder.iterdir()) == ["cfg.json", "params.npz"]
    assert list(load("hf://us/toy/sae/layer_3/")) == ["W_dec"]
    assert list(load(Path("hf://us/toy/loose/y.npy"))) == ["y"]
    assert hub.fetched() == ["loose/y.npy", "sae/layer_3/cfg.json", "sae/layer_3/params.npz"]


def test_revisions(hub: Hub) -> None:
    assert_close(load("hf://us/toy@v0")["w"].tensor(), -W)
    assert_close(load("hf://us/toy/w.npy@v0")["w"].tensor(), -W)
    assert load("hf://us/toy/w.npy@v0").path.parent.name == OLD
    assert load("hf://us/toy").path.name == MAIN


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("hf://us/absent", "no such repository, or a private one (`hf auth login`)"),
        ("hf://us/toy@v9", "no such revision"),
        ("hf://us/gated", "gated; ask for access on its page, then log in with `hf auth login`"),
        ("hf://us/broken", "refused by the hub (Server error '500"),
        ("hf://us/to..y", "not a name on the hub ("),
        ("hf://us/toy/loose/z.npy", "no such file; close to it: loose/y.npy, loose/x.npy"),
        ("hf://us/toy/loose", "a folder; the weight files in it are x.npy, y.npy"),
        ("hf://us/toy/sae", "a folder (with layer_3 in it), without weight files in it"),
        ("hf://us/toy/README.md", ""),
        *(
            (path, "must be of the form hf://owner/name/path@revision, the last two if need be")
            for path in ("hf://", "hf://us", "hf://us/toy@a@b", "hf://us/toy/../x", "hf://us/toy/a/..", "hf:///us/toy")
        ),
    ],
)
def test_what_is_not_there(path: str, said: str, hub: Hub) -> None:
    with pytest.raises(WeightFileError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert (f"{path}: " if said else "README.md: ") + said in str(caught.value)
    assert hub.fetched() == ["README.md"] * (not said)


@pytest.mark.bad_input
def test_without_the_hub_the_cache_serves(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    load("hf://us/toy/sae/layer_3")
    ask_at("http://127.0.0.1:9", monkeypatch)  # nothing listens there
    assert list(load("hf://us/toy/sae/layer_3")) == ["W_dec"]
    assert list(load(f"hf://us/toy/sae/layer_3@{MAIN}")) == ["W_dec"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert list(load("hf://us/toy/sae/layer_3")) == ["W_dec"]
    for path in ("hf://us/other", "hf://us/toy@v0"):
        with pytest.raises(WeightFileError, match=f"{path}: the hub cannot be reached, and no copy is in the cache"):
            load(path)
    with pytest.raises(WeightFileError, match=r"model\.safetensors: no such file"):
        load("hf://us/toy/model.safetensors")


@pytest.mark.bad_input
def test_an_index_that_names_other_files(hub: Hub) -> None:
    index = hub.folders[MAIN] / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../../refs/main"}}))
    with pytest.raises(
        WeightFileError, match=r"it names the file '\.\./\.\./\.\./refs/main', which is no path beneath"
    ):
        load("hf://us/toy")


@pytest.mark.bad_input
def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'^hf:// paths need huggingface_hub: pip install "polysem\[networks\]"$'):
        load("hf://us/toy")
