"""A page of headings, text, tables and pictures, written as Markdown and as HTML that needs nothing else."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from motes.imaging import atomic_path


@dataclass(frozen=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; ``code`` in backquotes."""

    text: str


@dataclass(frozen=True)
class Points:
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A column whose title starts with ``>`` is aligned to the right. Cells may hold several lines; None is empty."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Picture:
    file: str
    caption: str


Block = Heading | Text | Points | Table | Picture

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1d21; max-width: 1240px; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .6rem; } h1 { margin-top: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid #e3e5e8; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #1b1d21; white-space: nowrap; } tbody tr:hover { background: #f4f6f8; }
.right { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td small { color: #6a7077; } code { background: #f1f2f4; padding: 0 .25em; }
figure { margin: 1.5rem 0; } img { max-width: 100%; } figcaption { color: #6a7077; font-size: 13px; }
"""


def write_page(blocks: Sequence[Block], markdown: Path) -> None:
    """Writes ``markdown`` and the same page as ``.html`` beside it."""
    title = next((b.text for b in blocks if isinstance(b, Heading)), markdown.stem)
    for path, text in ((markdown, as_markdown(blocks)), (markdown.with_suffix(".html"), as_html(blocks, title))):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def as_markdown(blocks: Sequence[Block]) -> str:
    """The page as Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def as_html(blocks: Sequence[Block], title: str) -> str:
    """The page as one HTML document; pictures are linked."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Text():
            return block.text
        case Points():
            return "\n".join(f"- {item}" for item in block.items)
        case Picture():
            return f"![{block.caption}]({block.file})"
        case Table():
            line = ["---:" if c.startswith(">") else "---" for c in block.columns]
            rows = [[c.lstrip(">") for c in block.columns], line, *([_cell(c) for c in r] for r in block.rows)]
            return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", "<br>")


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{_inline(block.text)}</h{block.level}>"
        case Text():
            return f"<p>{_inline(block.text)}</p>"
        case Points():
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block.items) + "</ul>"
        case Picture():
            source, caption = html.escape(block.file), html.escape(block.caption)
            return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        case Table():
            classes = [' class="right"' if c.startswith(">") else "" for c in block.columns]
            head = "".join(f"<th{k}>{_inline(c.lstrip('>'))}</th>" for c, k in zip(block.columns, classes, strict=True))
            rows = "".join(
                "<tr>" + "".join(f"<td{k}>{_html_cell(v)}</td>" for v, k in zip(r, classes, strict=True)) + "</tr>"
                for r in block.rows
            )
            return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _html_cell(value: object) -> str:
    first, *more = ("" if value is None else str(value)).split("\n")
    return _inline(first) + "".join(f"<br><small>{_inline(line)}</small>" for line in more)


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"\]\(([^)/]+)\.md\)", r"](\1.html)", text)  # a page beside this one is written as both
    return re.sub(r"\[([^]]+)\]\(([^)]+)\)", r'<a href="\2">\1</a>', text)
