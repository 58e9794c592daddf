"""Talisman: `results[]` of files, each with what failed, warned and was ignored
(talisman, report/report.go).

A message says what was looked for and, behind it, the text that was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, unescaped_keys
from ingestor.parsers._code import neighbours, only_value
from ingestor.parsers._groups import Group, Make, groups, text
from ingestor.parsers._words import severity
from ingestor.records import Record
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Failure(Exact):
    type: str
    message: str | None = None
    commits: list[str] | None = None
    severity: str | None = None


_DIALECT = Dialect(_Failure, expected=("message",))
_LISTS = frozenset((b"failure_list", b"warning_list", b"ignore_list"))
_SUCH_AS = re.compile(
    r"contain (?P<what>[a-z0-9 ]{3,40}?) such as:\s*(?P<value>.*)|"
    r"(?P<pattern>potential secret pattern)\s*:\s*(?P<line>.*)",
    re.IGNORECASE | re.DOTALL,
)


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if b"results" in keys and keys & _LISTS:
        return 1.0
    counts = {b"filecontent", b"filesize", b"filename"}
    return 0.9 if keys >= {b"summary", b"types"} | counts else 0.0


def _made(listed: str) -> Make:
    def record(found: _Failure, raw: bytes, file: Group) -> Record:
        path, message = text(file, "filename"), found.message or ""
        commits = found.commits or []
        said = _SUCH_AS.search(message)
        shown = ((said["value"] or said["line"]) if said else "").strip()
        # Long texts are cut, and then no credential can be told from them.
        cut = shown.endswith("...")
        value = "" if cut else only_value(shown)
        state = pb.VALUE_STATE_REDACTED if cut else pb.VALUE_STATE_ABSENT
        return Record(
            raw=b"\0".join((raw, listed.encode(), path.encode())),
            tool="talisman",
            rule_id=found.type,
            rule_name=((said["what"] or said["pattern"]).lower() if said else ""),
            path=path,
            commit=commits[0] if commits else "",
            severity=severity(found.severity),
            triage=pb.TRIAGE_ACCEPTED if listed == "ignore_list" else pb.TRIAGE_UNSPECIFIED,
            metadata={"list": listed} | ({"commits": str(len(commits))} if commits else {}),
            value_state=pb.VALUE_STATE_PRESENT if value else state,
            value=value,
            match=shown,
            message=message,
            secrets=neighbours((shown.removesuffix("..."),), value),
        )

    return record


def _parse(source: Source) -> Iterator[Record | Rejected]:
    lists = {name: (_DIALECT, _made(name)) for name in map(bytes.decode, sorted(_LISTS))}

    def results() -> Iterator[Record | Rejected]:
        source.dialect = "talisman 1"
        return groups(source, lists, {"filename": True}, path="results")

    return source.documents(lambda: source.walk({"results": results}, ("summary",)))


PARSER = Parser(
    id="talisman",
    version="1",
    title="Talisman",
    aliases=("talisman-json",),
    shapes=('{"results": […]}',),
    sniff=_sniff,
    parse=_parse,
    versions="1.x",
    notes="What Talisman was told to ignore is kept, as accepted.",
)
