"""Files on the Hugging Face hub: `hf://owner/name/path@revision` is downloaded to the hub's own cache."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polysem.networks._bytes import WeightFileError, first_line
from polysem.networks._folder import INDEX_SUFFIX, preferred, read_index

_ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)(?:/(?P<inside>[^@]*))?(?:@(?P<revision>[^@]+))?")
_CONFIGS = ("config.json", "cfg.json")


def is_address(path: str) -> bool:
    """Whether a path means the hub; `pathlib` makes one slash of two."""
    return path.startswith(("hf:/", "hf:\\"))


def local(path: str, *, endpoint: str | None = None) -> Path:
    """Download what a path on the hub stands for, unless the cache has it, and say where it lies.

    Of a folder only the weight file that stands for it (as in `load`), its shards, and `config.json` or `cfg.json` are
    downloaded. Without the hub, what the cache has of the revision is used.

    Args:
        path: `hf://owner/name`, then `/file/or/folder` and `@revision` if need be.
        endpoint: address of the hub; by default that of `huggingface_hub` (environment `HF_ENDPOINT`).

    Returns:
        The file, or the folder.

    Raises:
        ImportError: `huggingface_hub` is not installed.
        WeightFileError: there is no such repository, revision or file, it is gated, the hub cannot be reached, or
            the folder could mean several files; one line says why.

    Source: ours.
    """
    said = _ADDRESS.fullmatch(path)
    inside = (said["inside"] or "").strip("/") if said else ""
    if not said or ".." in inside.split("/"):
        raise WeightFileError(f"{path}: must be of the form hf://owner/name/path@revision, the last two if need be")
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError('hf:// paths need huggingface_hub: pip install "polysem[networks]"') from error
    repo, revision = said["repo"], said["revision"]
    with _problems(path):
        hub = huggingface_hub.HfApi(endpoint=endpoint)
        try:
            info = hub.model_info(repo, revision=revision, timeout=10)
        except Exception as error:
            cached = _cached(repo, revision)
            if isinstance(error, huggingface_hub.errors.HfHubHTTPError) or cached is None:
                raise
            return cached / inside
        names = [sibling.rfilename for sibling in info.siblings or ()]

        def fetch(name: str) -> Path:
            return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision, endpoint=hub.endpoint))

        start = f"{inside}/" if inside else ""
        here = {name.removeprefix(start) for name in names if name.startswith(start)}
        is_file = inside in names
        if is_file:
            start = inside[: inside.rfind("/") + 1]
            here = {name.removeprefix(start) for name in names if name.startswith(start)}
        elif not here:
            close = difflib.get_close_matches(inside, names, n=3)
            raise WeightFileError(f"{path}: no such file{'; close to it: ' if close else ''}{', '.join(close)}")
        beside = {name for name in here if "/" not in name}
        chosen = inside.removeprefix(start) if is_file else preferred(beside, _described(path, here - beside))
        found = fetch(start + chosen)
        for name in sorted(_belonging(found, chosen, here)):
            fetch(start + name)
        return found if is_file else found.parent


def _belonging(found: Path, chosen: str, here: set[str]) -> set[str]:
    """What else is needed to read a file: its shards, numbers beside an ONNX model, the configuration."""
    belonging = {name for name in _CONFIGS if name in here}
    if chosen.endswith(INDEX_SUFFIX):
        belonging |= here.intersection(read_index(found).shards.values())
    if chosen.endswith(".onnx"):
        belonging |= {name for name in here if name.startswith(chosen)}
    return belonging - {chosen}


def _described(path: str, below: set[str]) -> str:
    folders = sorted({name.split("/")[0] for name in below})
    return f"{path}: a folder" + (
        f" (with {', '.join(folders[:5])}{' ...' * (len(folders) > 5)} in it)" * bool(folders)
    )


def _cached(repo: str, revision: str | None) -> Path | None:
    """The snapshot of a revision that the cache has."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    reference = folder / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision or ""
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


@contextmanager
def _problems(path: str) -> Iterator[None]:
    """What the hub's library says is wrong, in one line of ours."""
    from huggingface_hub import errors

    try:
        yield
    except WeightFileError:
        raise
    except errors.GatedRepoError as error:
        raise WeightFileError(f"{path}: gated; ask for access on its page, then log in with `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightFileError(f"{path}: no such repository, or a private one (`hf auth login`)") from error
    except errors.RevisionNotFoundError as error:
        raise WeightFileError(f"{path}: no such revision") from error
    except errors.HFValidationError as error:
        raise WeightFileError(f"{path}: not a name on the hub ({first_line(error)})") from error
    except errors.HfHubHTTPError as error:
        raise WeightFileError(f"{path}: refused by the hub ({first_line(error)})") from error
    except Exception as error:  # whatever its library of HTTP raises, which changes between versions
        raise WeightFileError(
            f"{path}: the hub cannot be reached, and no copy is in the cache ({first_line(error)})"
        ) from error
