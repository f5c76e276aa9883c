"""Vocabularies in every form, and files that are none."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysem.networks import WeightFileError, read_labels, visible_label


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("vocab.txt", "a\nb\n", ("a", "b")),
        ("vocab.txt", "\ufeffa\r\nb\r\n\r\n", ("a", "b", "")),
        ("vocab.txt", "a\u2028b\x0bc\x85\n d", ("a\u2028b\x0bc\x85", " d")),  # lines end at "\n" alone
        ("vocab.txt", "", ()),
        ("vocab.json", {"b": 1, "a": 0}, ("a", "b")),
        ("vocab.json", {"b": 3, "a": 0}, ("a", "", "", "b")),
        ("classes.json", ["cat", "dog", "cat2"], ("cat", "dog", "cat2")),
        (
            "tokenizer.json",
            {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<s>"}]},
            ("a", "b", "<s>"),
        ),
        ("tokenizer.json", {"model": {"vocab": [["a", -1.5], ["b", 0]]}}, ("a", "b")),
        ("tokenizer.json", {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 0, "content": "a"}]}, ("a",)),
    ],
)
def test_vocabularies(name: str, content: object, expected: tuple[str, ...], tmp_path: Path) -> None:
    assert read_labels(written(tmp_path, name, content)) == expected


def test_duplicate_classes_keep_their_places(tmp_path: Path) -> None:
    assert read_labels(written(tmp_path, "classes.json", ["cat", "dog", "cat"])) == ("cat", "dog", "cat")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.json", {}, "no vocabulary"),
        ("v.json", [], "no vocabulary"),
        ("v.json", 3, "no vocabulary"),
        ("v.json", {"a": "b"}, "neither tokens with their numbers nor a list"),
        ("v.json", {"a": True}, "neither"),
        ("v.json", {"a": -1}, "neither"),
        ("v.json", {"a": 0.5}, "neither"),
        ("v.json", [1, 2], "neither"),
        ("v.json", {"a": 10**12}, "its 1 tokens have numbers up to 1000000000000"),
        ("v.json", "{", "no vocabulary"),
        ("v.json", "[" * 10**6, "no vocabulary"),
        ("v.json", {"model": {"vocab": None}}, "no vocabulary"),
        ("v.json", {"model": {"vocab": [[]]}}, "no vocabulary"),
        ("v.json", {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": None, "content": "a"}]}, "no vocabulary"),
    ],
)
def test_what_is_no_vocabulary(name: str, content: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightFileError) as caught:
        read_labels(written(tmp_path, name, content))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.bad_input
def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(WeightFileError, match="cannot be read"):
        read_labels(tmp_path / "absent.txt")
    with pytest.raises(WeightFileError, match="cannot be read"):
        read_labels(tmp_path)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightFileError, match="no vocabulary"):
        read_labels(tmp_path / "bytes.txt")
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(2**30)  # without taking that much room
    with pytest.raises(WeightFileError, match="larger than 128 MiB"):
        read_labels(tmp_path / "large.txt")
    with pytest.raises(TypeError, match="path must be"):
        read_labels(3)


def test_the_characters_of_a_real_network(ocr_file: Path) -> None:
    labels = read_labels(ocr_file)
    assert len(labels) == 6625
    assert (labels[0], labels[1], labels[-1]) == ("blank", "'", " ")


def test_a_real_vocabulary_in_two_forms(minilm_file: Path) -> None:
    text, tokenizer = (read_labels(minilm_file.parent / name) for name in ("vocab.txt", "tokenizer.json"))
    assert text == tokenizer
    assert (len(text), text[101], text[2332]) == (30522, "[CLS]", "king")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_labels_are_shown_on_one_line(label: str) -> None:
    shown = visible_label(label)
    assert shown
    assert shown == shown.strip()
    assert len(shown.splitlines()) == 1
    assert not any(unicodedata.category(c)[0] == "C" for c in shown)
    assert len(shown) <= 6 * 40 + 3


def test_what_turns_text_around_is_shown_as_its_code() -> None:
    assert visible_label("\u202ecba\x00") == "\\u202ecba\\u0000"
