"""Files appear whole or not at all, and what is there stays unless told otherwise."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polysem.reports import claim, write
from unprivileged import as_nobody, public_folder

EXISTS = "exists: choose another with --out, or overwrite it with --force"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@contextmanager
def refused(path: Path, said: str) -> Iterator[None]:
    with pytest.raises(ValueError) as caught:
        yield
    assert str(caught.value) == f"output {path} {said}"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("given", "stored"), [("größer\n", "größer\n".encode()), (b"\x89PNG\r\n\0", b"\x89PNG\r\n\0")])
def test_a_new_file(force: bool, given: str | bytes, stored: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    assert claim(path, force=force) is path
    assert list(tmp_path.iterdir()) == []
    write(path, given, force=force)
    assert content(tmp_path) == {"a.html": stored}


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a.html"), "x", force=False)
    assert content(tmp_path) == {"a.html": b"x"}


def test_what_is_there_stays_without_force(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")
    for attempt in (lambda: claim(path, force=False), lambda: write(path, "new", force=False)):
        with refused(path, EXISTS):
            attempt()
        assert content(tmp_path) == {"a.html": b"old"}
    claim(path, force=True)
    assert content(tmp_path) == {"a.html": b"old"}
    write(path, "new", force=True)
    assert content(tmp_path) == {"a.html": b"new"}


def test_links(tmp_path: Path) -> None:
    """A link to nowhere is something too; with `force` the link is replaced, not what it points to."""
    path, target = tmp_path / "link.html", tmp_path / "target.html"
    path.symlink_to(target)
    with refused(path, EXISTS):
        write(path, "new", force=False)
    assert path.is_symlink()
    assert not target.exists()
    target.write_text("old")
    with refused(path, EXISTS):
        claim(path, force=False)
    write(path, "new", force=True)
    assert content(tmp_path) == {"link.html": b"new", "target.html": b"old"}


@pytest.mark.parametrize("force", [False, True])
def test_places_where_no_file_can_be(force: bool, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path, "is a directory: name a file"),
        (tmp_path / "absent" / "a.html", f"cannot be written: there is no directory {tmp_path / 'absent'}"),
        (tmp_path / "file" / "a.html", f"cannot be written: there is no directory {tmp_path / 'file'}"),
        (tmp_path / ("x" * 300), "cannot be written: File name too long"),
    ):
        with refused(path, said):
            claim(path, force=force)
        with refused(path, said):
            write(path, "new", force=force)
    assert content(tmp_path) == {"file": b""}


def test_folders_without_permission() -> None:
    with public_folder() as folder:
        (folder / "open").mkdir()
        (folder / "open").chmod(0o777)
        (folder / "closed").mkdir(mode=0o000)
        with as_nobody():
            write(folder / "open" / "a.html", "x", force=False)
            for path, said in (
                (folder / "a.html", f"cannot be written: no permission to write in {folder}"),
                (folder / "closed" / "a.html", "cannot be written: Permission denied"),
                (folder / "closed" / "below" / "a.html", "cannot be written: Permission denied"),
            ):
                with refused(path, said):
                    claim(path, force=False)
                with refused(path, said):
                    write(path, "x", force=True)
        (folder / "closed").chmod(0o755)
        assert content(folder) == content(folder / "closed") == {}
        assert content(folder / "open") == {"a.html": b"x"}


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_appears_meanwhile(force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check and the last step: only `force` replaces it."""
    path, make = tmp_path / "a.html", tempfile.mkstemp

    def rival_is_faster(**options: object) -> tuple[int, str]:
        path.write_text("rival")
        return make(**options)

    monkeypatch.setattr(tempfile, "mkstemp", rival_is_faster)
    if force:
        write(path, "new", force=True)
    else:
        with refused(path, EXISTS):
            write(path, "new", force=False)
    assert content(tmp_path) == {"a.html": b"new" if force else b"rival"}


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def fail(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("problem", [interrupt, fail])
@pytest.mark.parametrize("step", ["os.fdopen", "pathlib.Path.chmod", "os.link", "pathlib.Path.replace"])
def test_nothing_is_left_of_a_write_that_fails(
    step: str, problem: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, force = tmp_path / "a.html", step == "pathlib.Path.replace"
    if force:
        path.write_text("old")
    before = content(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(step, problem)
        with pytest.raises((KeyboardInterrupt, OSError)):
            write(path, "new", force=force)
    assert content(tmp_path) == before
    write(path, "new", force=force)
    assert content(tmp_path) == {"a.html": b"new"}


@pytest.mark.parametrize("force", [False, True])
def test_the_content_is_whole_before_it_has_its_name(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, large, seen = tmp_path / "a.html", "0123456789" * 100_000, []
    step = "pathlib.Path.replace" if force else "os.link"
    move = Path.replace if force else os.link

    def watched(source: Path, target: Path) -> object:
        seen.append((Path(source).read_text() == large, path.exists()))
        return move(source, target)

    monkeypatch.setattr(step, watched)
    write(path, large, force=force)
    assert seen == [(True, False)]
    assert path.read_text() == large


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o000, 0o666)])
def test_permissions_follow_the_umask(mask: int, mode: int, force: bool, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "a.html", "x", force=force)
        assert os.umask(mask) == mask  # as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.html").stat().st_mode) == mode
