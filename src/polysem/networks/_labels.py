"""Names of features: vocabularies of tokens and classes."""

import json
import unicodedata
from os import PathLike, fspath
from pathlib import Path

from polysem.networks._bytes import WeightFileError
from polysem.networks._files import load

_LARGEST = 128 * 2**20
_LONGEST_SHOWN = 40


def read_labels(path: str | PathLike[str]) -> tuple[str, ...]:
    """The labels of features, in the order of the features, from a vocabulary.

    Read are `.json` files: `vocab.json` (token to number) and `tokenizer.json` of Hugging Face, with added tokens, and
    lists; `.onnx` files that carry the characters that they recognise, as those of PaddleOCR do (one a line under
    `character`; their readouts put `blank` before these and a space behind); any other file is text with one label a
    line, such as `vocab.txt`.

    Args:
        path: the file.

    Returns:
        A label for each feature; `""` where the numbers of a `.json` file leave one out.

    Raises:
        TypeError: `path` is not a path.
        WeightFileError: the file cannot be read, is larger than 128 MiB, or holds no vocabulary.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "vocab.json"
        ...     size = path.write_text('{"b": 1, "a": 0, "z": 3}')
        ...     read_labels(path)
        ('a', 'b', '', 'z')

    Source: ours.
    """
    try:
        location = Path(fspath(path))
    except TypeError as error:
        raise TypeError(f"path must be a str or os.PathLike[str], got {path!r}") from error
    if location.suffix.lower() == ".onnx":
        characters = load(location).metadata.get("character")
        if characters is None:
            raise WeightFileError(f"{location}: no vocabulary: its metadata has no entry 'character'")
        return ("blank", *_lines(characters), " ")
    try:
        with location.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise WeightFileError(f"{location}: larger than {_LARGEST // 2**20} MiB, which no vocabulary is")
        text = content.decode("utf-8-sig")
        if location.suffix.lower() == ".json":
            return _from_json(location, json.loads(text))
    except WeightFileError:
        raise
    except OSError as error:
        raise WeightFileError(f"{location}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise WeightFileError(f"{location}: no vocabulary ({error})") from error
    return _lines(text)


def visible_label(label: str) -> str:
    r"""A label as it can be shown on one line: what is invisible as its code, quotes around spaces, and not too long.

    Args:
        label: any text.

    Returns:
        The label with control, formatting and unassigned characters as `\u....`, cut after 40 characters.

    Example:
        >>> visible_label("a\tb"), visible_label(" the"), visible_label("x" * 50)[-3:]
        ('a\\u0009b', "' the'", 'xx…')

    Source: ours.
    """
    cut = label[:_LONGEST_SHOWN]
    shown = "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") else c
        for c in cut
    )
    if shown != shown.strip() or not shown:
        shown = f"'{shown}'"
    return shown + "…" * (len(label) > len(cut))


def _lines(text: str) -> tuple[str, ...]:
    """Not those of `splitlines`: a token can hold any other character, and tokens can be empty."""
    lines = text.split("\n")
    return tuple(line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines))


def _from_json(path: Path, content: object) -> tuple[str, ...]:
    if isinstance(content, dict) and isinstance(content.get("model"), dict):  # tokenizer.json
        vocabulary = content["model"].get("vocab")
        if isinstance(vocabulary, list):  # unigram: pairs of token and score
            vocabulary = [entry[0] if isinstance(entry, list) and entry else None for entry in vocabulary]
        numbered = _numbered(vocabulary)
        added = content.get("added_tokens")
        if numbered is not None and isinstance(added, list):
            pairs = {entry.get("content"): entry.get("id") for entry in added if isinstance(entry, dict)}
            more = _numbered(pairs)
            numbered = None if more is None else numbered | more
    else:
        numbered = _numbered(content)
    if not numbered:
        raise WeightFileError(f"{path}: no vocabulary: neither tokens with their numbers nor a list of labels")
    size = max(numbered) + 1
    if size > 2 * len(numbered) + 1024:
        raise WeightFileError(f"{path}: no vocabulary: its {len(numbered)} tokens have numbers up to {size - 1}")
    return tuple(numbered.get(index, "") for index in range(size))


def _numbered(vocabulary: object) -> dict[int, str] | None:
    """Token by number, if the content says both."""
    if isinstance(vocabulary, list):
        return dict(enumerate(vocabulary)) if _all_text(vocabulary) else None
    if not isinstance(vocabulary, dict) or not _all_text(vocabulary):
        return None
    numbers = vocabulary.values()
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        return None
    return {number: token for token, number in vocabulary.items()}


def _all_text(values: object) -> bool:
    return isinstance(values, list | dict) and all(isinstance(value, str) for value in values)
