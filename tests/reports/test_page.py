"""A page holds all that it needs, says what it was given and nothing that it was given can change what it is."""

import json
import re

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from html_page import Page
from polysem.plots import TEMPLATE
from polysem.reports import Chapter, Reproduction, Table, page, plan_page
from polysem.studies import WidthConfig, width

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt; & <b>",
    "\u2028 ]]> ${x} \\u003c",
]


def figure(title: str = "", caption: str = "See.", name: str = "") -> go.Figure:
    return go.Figure(
        go.Scatter(x=[0, 1], y=[1, 2], name=name),
        {"template": TEMPLATE, "height": 300, "meta": {"title": title, "caption": caption}},
    )


def assert_self_contained(html: str) -> None:
    parsed = Page(html)
    for tag, attributes in parsed.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img", "audio", "video", "form", "svg"}
        assert "http-equiv" not in attributes
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "action", "poster", "data", "formaction", "ping"}
            assert name != "href" or (value or "").startswith("#")
            assert "//" not in (value or "")
    identifiers = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    for _, attributes in parsed.elements:
        if "href" in attributes:
            assert (attributes["href"] or "")[1:] in identifiers
    own = [data for data, _ in parsed.scripts if data != get_plotlyjs()]
    assert len(own) == len(parsed.scripts) - 1
    for text in (*own, *parsed.styles, *(data for data, _ in parsed.texts)):
        assert not re.search(r"https?:|//[a-z]+\.|url\(|@import", text)


def test_the_report_is_self_contained(reproduction: Reproduction) -> None:
    assert_self_contained(reproduction.html)


def test_a_plan_is_self_contained() -> None:
    html = plan_page(width(WidthConfig(n_features=4)))
    assert_self_contained(html)
    assert len(Page(html).figures) == 3
    assert "4 features, importances v = 0.9ⁱ, kurtosis 20" in Page(html).text("main")


def test_parts_in_their_order() -> None:
    inner = Chapter("inner", "Inner", text=("Within.",))
    chapters = (
        Chapter("one", "First", text=("Said.",), figures=(("a", figure()),), tables=(Table(("h",), (("c",),)),)),
        Chapter("two", "Second", parts=(inner,)),
    )
    html = page("Title", "Lead.", chapters, "Foot.")
    assert_self_contained(html)
    parsed = Page(html)
    assert parsed.text("title") == ["Title"]
    said = "Title Lead. First Second First Said. See. h c Second Inner Within. Foot."
    assert [" ".join(piece.split()) for piece in parsed.text("body")] == re.split(r"(?<=[.a-z]) ", said)
    headings = [tag for tag, _ in parsed.elements if re.fullmatch(r"h\d", tag)]
    assert headings == ["h1", "h2", "h2", "h3"]
    assert [attributes["href"] for tag, attributes in parsed.elements if tag == "a"] == ["#one", "#two"]
    assert parsed.elements[0] == ("html", {"lang": "en"})
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [a for _, a in parsed.elements]


def test_one_chapter_needs_no_contents() -> None:
    assert "nav" not in [tag for tag, _ in Page(page("T", "L", (Chapter("a", "A"),), "F")).elements]


def test_figures_are_carried_whole() -> None:
    given = figure(title="Shown", caption="C_1 and word_embeddings.", name="trace")
    parsed = Page(page("T", "L", (Chapter("a", "A", figures=(("b", given), ("c", figure()))),), "F"))
    first, second = parsed.figures
    assert first == json.loads(given.to_json())
    assert second == json.loads(figure().to_json())
    assert parsed.text("h3") == ["Shown"]
    assert "".join(parsed.text("figcaption")) == "C1 and word_embeddings.See."
    identifiers = [attributes.get("id") for tag, attributes in parsed.elements if tag == "figure"]
    assert identifiers == ["a-b", "a-c"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_only_text(text: str) -> None:
    chapter = Chapter(
        "a",
        text,
        text=(text,),
        figures=(("b", figure(text, text, text)),),
        tables=(Table((text,), ((text,),)),),
        parts=(Chapter("c", text),),
    )
    html = page(text, text, (chapter, Chapter("d", "D")), text)
    assert_self_contained(html)
    parsed = Page(html)
    plain = page("x", "x", (Chapter("a", "x", text=("x",), figures=(("b", figure("x", "x", "x")),)),), "x")
    assert len(parsed.scripts) == len(Page(plain).scripts) == 3
    for tag in ("title", "h1", "nav", "h2", "h3", "figcaption", "th", "td", "footer"):
        assert text in parsed.text(tag), tag
    assert parsed.figures[0]["data"][0]["name"] == text
    assert parsed.figures[0]["layout"]["meta"] == {"title": text, "caption": text}


def test_no_script_can_end_early_or_never() -> None:
    """In a script, `</script` ends it and `<!-- <script` keeps its end from being seen: so no `<` at all."""
    html = page("T", "L", (Chapter("a", "A", figures=(("b", figure(name="<!--<script></script>")),)),), "F")
    (data,) = [data for data, kind in Page(html).scripts if kind.get("type") == "application/json"]
    assert "<" not in data


@pytest.mark.parametrize(
    ("written", "set_"),
    [
        ("C_i = x_1", "C<sub>i</sub> = x<sub>1</sub>"),
        ("x_{i+1}", "x<sub>i+1</sub>"),
        ("Σ_j (W_i·W_j)²", "Σ<sub>j</sub> (W<sub>i</sub>·W<sub>j</sub>)²"),
        ("x_ij, x_i²", "x<sub>ij</sub>, x<sub>i</sub>²"),
        ("0.85^i and a^T.", "0.85<sup>i</sup> and a<sup>T</sup>."),
        ("|W_i|² < 1 & more", "|W<sub>i</sub>|² &lt; 1 &amp; more"),
    ],
)
def test_sub_and_superscripts(written: str, set_: str) -> None:
    html = page("T", "L", (Chapter("a", "A", text=(written,)),), "F")
    assert f"<p>{set_}</p>" in html


@pytest.mark.parametrize(
    "name",
    ["word_embeddings", "W_dec", "embeddings.word_embeddings.weight", "d_hidden", "2^10", "_i"],
)
def test_names_are_left_alone(name: str) -> None:
    html = page(name, name, (Chapter("a", "A", text=(f"The matrix {name}.",)),), "F")
    assert f"<p>The matrix {name}.</p>" in html
    assert f'<p class="lead">{name}</p>' in html
    assert f"<h1>{name}</h1>" in html


def test_a_lead_is_never_set_as_a_formula() -> None:
    """It names tensors, of which `W_E` or `x_1` may be one."""
    assert '<p class="lead">W_E in x_1^2</p>' in page("T", "W_E in x_1^2", (Chapter("a", "A"),), "F")


def test_numbers_in_tables_do_not_break() -> None:
    html = page("T", "L", (Chapter("a", "A", tables=(Table(("h", "i"), (("1.5e-3", "two words"),)),)),), "F")
    assert '<td class="number">1.5e-3</td><td>two words</td>' in html
