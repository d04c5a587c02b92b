"""Markdown for people: tables and texts whose content cannot break them, and pages made of it."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: #1a202c; background: #fff;
       max-width: 58rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid #e2e8f0; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .4rem; }
p, ul { margin: .5rem 0 .9rem; } li { margin: .15rem 0; }
table { border-collapse: collapse; margin: .75rem 0 1.25rem; font-size: .9rem; display: block; overflow-x: auto; }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #e2e8f0; text-align: left; vertical-align: top; }
th { color: #4a5568; font-weight: 600; border-bottom: 2px solid #cbd5e0; white-space: nowrap; }
td[style*=right], th[style*=right] { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, monospace; background: #f7fafc; padding: .1em .25em;
       border-radius: 3px; overflow-wrap: anywhere; }
blockquote { margin: 1rem 0; padding: .4rem 1rem; border-left: 4px solid #dd6b20; background: #fffaf0; }
img { max-width: 100%; height: auto; margin: .5rem .5rem .5rem 0; vertical-align: top; }
@media (min-width: 50rem) { img.half { max-width: calc(50% - 1rem); } }
@media print { body { margin: 0; max-width: none; font-size: 12px; } h2 { break-after: avoid; }
       img, tr { break-inside: avoid; } }
"""


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], right: str = "") -> str:
    """A table. right: for each column `r` where it is set to the right, such as ".rr". Cells may hold Markdown."""
    sides = right.ljust(len(heads), ".")
    line = "|" + "|".join("---:" if side == "r" else "---" for side in sides) + "|"
    return "\n".join([_row(heads), line, *(_row(row) for row in rows)])


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def code(text: object) -> str:
    """Text as it stands, whatever it holds."""
    shown = " ".join(str(text).split()) or " "
    longest = max((len(run) for run in _backticks(shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _backticks(text: str) -> list[str]:
    import re

    return re.findall("`+", text)


def page(markdown: str, title: str, folder: Path) -> str:
    """A page of its own: pictures (their paths are below `folder`) within it, no script, nothing from elsewhere.

    HTML in the Markdown is shown as text. A picture that is missing is its description.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(renderer: Any, tokens: Any, index: int, options: Any, environment: Any) -> str:
        token = tokens[index]
        said = renderer.renderInlineAsText(token.children, options, environment)
        return _picture(folder, str(token.attrGet("src")), said)

    parser.add_render_rule("image", image)
    body = parser.render(markdown)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style></head>\n'
        f"<body>\n{body}</body></html>\n"
    )


def _picture(folder: Path, source: str, said: str) -> str:
    file = (folder / source).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        return f"<em>{escape(said)} ({escape(source)} is missing)</em>"
    data = b64encode(file.read_bytes()).decode()
    return f'<img class="{_class(file)}" alt="{escape(said)}" src="data:image/png;base64,{data}">'


def _class(file: Path) -> str:
    """Narrow pictures stand side by side. The width is in the header of a PNG."""
    return "half" if int.from_bytes(file.read_bytes()[16:20]) < 720 else "whole"
