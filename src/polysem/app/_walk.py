"""Walking through folders that others have filled."""

import os
from collections.abc import Iterator
from pathlib import Path


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[os.DirEntry[str]]]]:
    """Each folder below a folder and that itself, with the folders and all else in it, in order, however deep.

    Names that are taken out of the list of folders are not gone into. Links count as all else; folders that cannot be
    read are left out.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as found:
                inner = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        folders = [entry.name for entry in inner if entry.is_dir(follow_symlinks=False)]
        yield here, folders, [entry for entry in inner if not entry.is_dir(follow_symlinks=False)]
        waiting += [here / name for name in reversed(folders)]
