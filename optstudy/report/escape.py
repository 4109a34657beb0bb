"""Write text of stores, archives and files as plain text of LaTeX, Markdown and CSV."""

import re

from optstudy.records.printable import printable
from optstudy.report.tables.table import UNKNOWN


def latex_text(text: str) -> str:
    """Escape a text for LaTeX."""
    special = {ord(letter): f"\\{letter}" for letter in "&%$#_{}"}
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    # In LaTeX's default font these are other signs.
    words |= {"<": "$<$", ">": "$>$", "|": "$|$"}
    words |= {"[": "{[}", "]": "{]}", "*": "{*}"}  # after the end of a row they would be its options
    escaped = printable(text).translate(special | {ord(letter): word for letter, word in words.items()})
    return re.sub(r"--(?=\w)", "-{}-", escaped)  # the two hyphens of an option, not a dash


def markdown_text(text: str) -> str:
    """Escape a text inside a line or cell of Markdown: no link, tag, emphasis, code or end of the cell."""
    escaped = re.sub(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=[\w#])", r"\\\g<0>", printable(text))
    escaped = re.sub(
        r"<(?=[\w/!?])", "&lt;", escaped
    )  # for programs that take it for a tag after a backslash, too
    return re.sub(r"(?<=\S)>|>(?=\S)", "&gt;", escaped)


def markdown_paragraph(text: str) -> str:
    """Escape a paragraph of Markdown, but for citations such as ``[@key]``."""
    parts = re.split(r"(\[@[\w:.+/-]+\])", text)
    return "".join(part if index % 2 else markdown_text(part) for index, part in enumerate(parts))


def markdown_code(text: str) -> str:
    """Return a text as code inside a line or cell of Markdown."""
    shown = printable(text)
    return markdown_text(text) if "`" in shown or "|" in shown else f"`{shown}`"


def csv_cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula; numbers stay numbers."""
    text = printable(text)
    is_formula = text.lstrip().startswith(("=", "+", "-", "@")) and text != UNKNOWN and not _is_number(text)
    return f"'{text}" if is_formula else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(?=[\d.])(\d[\d,]*)?(\.\d+)?(e[+-]?\d+)?( %)?", text) is not None
