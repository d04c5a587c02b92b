"""Pages made of Markdown: whatever a project says, nothing in them is alive, and no file but the run's own is read."""

from pathlib import Path

import pytest

from penstock.training.markdown import code, page, table

PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d494844520000000100000001")  # how a PNG of one pixel begins


def body(markdown: str, folder: Path) -> str:
    return page(markdown, "a title", folder).partition("<body>")[2]


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[here](javascript:alert(1))"]
)
def test_what_is_no_text_is_shown_as_text(tmp_path, text):
    shown = body(f"{text}\n\n{table(['a'], [[text]])}", tmp_path)
    assert not any(part in shown for part in ("<script", "<img", "<a "))
    assert "alert(1)" in shown


def test_a_cell_holds_whatever_a_value_is(tmp_path):
    values = ["a|b", "`", "x`y``z", "two\nlines", "*bold*"]
    shown = body(table(["value", "number"], [[code(value), 1] for value in values], ".r"), tmp_path)
    for value in ("a|b", "`", "x`y``z", "two lines", "*bold*"):
        assert f"<td><code>{value}</code></td>" in shown
    assert shown.count('style="text-align:right">1</td>') == len(values)


def test_pictures_of_the_folder_are_within_the_page_and_others_are_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "secret.png").write_bytes(PIXEL)
    (tmp_path / "run" / "roc.png").write_bytes(PIXEL)
    shown = body("![ROC](roc.png) ![no](../secret.png) ![gone](gone.png)", tmp_path / "run")
    assert shown.count("data:image/png;base64,") == 1
    assert "no (../secret.png is missing)" in shown
    assert "gone (gone.png is missing)" in shown


def test_the_title_is_escaped(tmp_path):
    assert "<title>a&lt;b</title>" in page("x", "a<b", tmp_path)
