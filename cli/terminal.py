"""What reaches the terminal, and what must not.

Paths, rules and reasons come from reports, and reports from anyone: control
characters could drive the terminal, bidi overrides could show one file's name
as another's. They are written as escapes, visibly.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# C0, DEL and C1; bidi marks, embeddings, overrides and isolates; the separators
# that break lines; surrogates, which no output encoding takes.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_PIPE_WIDTH = 160


def escape(text: str) -> str:
    r"""The text with every character that could steer a terminal as `\xNN` or `\uNNNN`."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def plain(text: str, style: str = "") -> Text:
    """The text for rich: escaped, and never read as markup."""
    return Text(escape(text), style)


def console(*, stderr: bool = False) -> Console:
    """stdout for results, stderr for all else; no colour unless it is a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        # A terminal that cannot show a character is no reason to fail.
        stream.reconfigure(errors="backslashreplace")
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        # Wide enough that a path stays on its line.
        made.width = max(made.width, _PIPE_WIDTH)
    return made


def listed(console: Console, table: Table) -> None:
    """A list; that it is empty is said on stderr."""
    console.print(table)
    if not table.row_count:
        print("none", file=sys.stderr)


def counted(number: int, what: str) -> str:
    """1 finding, 2 findings."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def dump(value: Any) -> str:
    """JSON in which nothing but ASCII stands, so that it cannot steer a terminal either."""
    return json.dumps(value, indent=2).replace("\x7f", "\\u007f")


def dump_line(value: Any) -> str:
    """As `dump`, on one line."""
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")
