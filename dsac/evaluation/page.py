"""Pieces of the pages: HTML files that ask the network for nothing and read well in light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib.resources import files


@cache
def style() -> str:
    """The style sheet of all pages."""
    return files("dsac.evaluation").joinpath("report.css").read_text(encoding="utf-8")


def page(title: str, content: str) -> str:
    """The whole page around its content."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style()}</style>\n</head>\n"
        f"<body>\n<main>\n{content}</main>\n</body>\n</html>\n"
    )


def section(title: str, content: str, note: str = "") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{note}{content}</section>\n"


def tiles(numbers: Iterable[tuple[str, str, str]]) -> str:
    """Large numbers, each with what stands small behind it (a unit, or of how many) and a label."""
    content = "".join(
        f"<div><dt>{label}</dt><dd>{number} <span>{escape(of)}</span></dd></div>"
        for number, of, label in numbers
    )
    return f'<dl class="tiles">{content}</dl>\n'


def grid(charts: Iterable[tuple[str, str]], kind: str = "") -> str:
    """Charts with their captions beside each other."""
    figures = "".join(
        f"<figure>{chart}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"
        for chart, caption in charts
    )
    return f'<div class="grid {kind}">{figures}</div>'


def table(
    headings: list[str],
    rows: Iterable[list[str]],
    text_columns: Sequence[int] = (0,),
    marked: Sequence[int] = (),
) -> str:
    """Numbers to the right, text to the left; `marked` rows stand out."""

    def cell(tag: str, column: int, text: str) -> str:
        return f"<{tag}{' class=text' if column in text_columns else ''}>{escape(text)}</{tag}>"

    head = "".join(cell("th", i, heading) for i, heading in enumerate(headings))
    body = ""
    for r, row in enumerate(rows):
        cells = "".join(cell("td", i, text) for i, text in enumerate(row))
        body += f"<tr{' class=marked' if r in marked else ''}>{cells}</tr>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
