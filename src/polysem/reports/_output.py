"""Writing files: whole or not at all, and never over what is there unless asked."""

import os
import tempfile
from pathlib import Path

EXISTS = "exists: choose another with --out, or overwrite it with --force"


def claim(path: Path, *, force: bool) -> Path:
    """Check that a file may be written there, before any work is done for it.

    Raises:
        ValueError: something is there already and `force` is off, it is a directory, or its folder cannot be
            written to.
    """
    try:
        problem = _problem(path, force)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
    if problem:
        raise ValueError(f"output {path} {problem}")
    return path


def _problem(path: Path, force: bool) -> str:
    """Why a file may not be written, in words; empty if it may."""
    folder = path.parent
    if path.is_dir():
        return "is a directory: name a file"
    if path.exists() and not force:
        return EXISTS
    if not folder.is_dir():
        return f"cannot be written: there is no directory {folder}"
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"cannot be written: no permission to write in {folder}"
    return ""


def write(path: Path, content: str | bytes, *, force: bool) -> None:
    """Write a file under a temporary name and move it into place, as `claim` allows."""
    claim(path, force=force)
    data = content.encode("utf-8") if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.chmod(0o666 & ~_umask())
        if force:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # fails if something came there meanwhile, where a rename would replace it
            temporary.unlink()
    except FileExistsError:
        temporary.unlink()
        raise ValueError(f"output {path} {EXISTS}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
