"""SARIF 2.1.0 (OASIS standard): `runs[].results[]` of any tool.

A run's tool, artifacts and base URIs may stand behind its results, so results
are held until the run ends, up to a limit; beyond it they are read with what is
known by then. What a result means is in `_sarif_result`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from ingestor.dialect import Dialect
from ingestor.framing import Source
from ingestor.parsers._base import Parser, unescaped_keys
from ingestor.parsers._sarif_model import Artifact, BaseUri, Result, Tool, VersionControl
from ingestor.parsers._sarif_result import Run
from ingestor.reading import Malformed
from ingestor.records import Record, reject
from winnow.ingest.v1.rejected_pb2 import Rejected

_MAX_HELD = 16 << 20  # bytes of results before their run's end
_MAX_ARTIFACTS = 200_000

_RESULT = Dialect(Result)
_TOOL = Dialect(Tool)
_ARTIFACT = Dialect(Artifact)
_BASE_URIS = msgspec.json.Decoder(dict[str, BaseUri])
_VERSION_CONTROL = msgspec.json.Decoder(list[VersionControl])


def _sniff(head: bytes, name: str) -> float:
    keys = unescaped_keys(head)
    if not head.lstrip().startswith(b"{") or not keys & {b"runs", b"$schema"}:
        return 0.0
    named = b"sarif" in head[:4096].lower() or name == "sarif"
    if b"runs" in keys:
        return 1.0 if named or b"driver" in keys or b'"2.1.0"' in head else 0.6
    return 0.7 if named else 0.0


class _Reader:
    """Walks a report's SARIF documents."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._number = -1

    def documents(self) -> Iterator[Record | Rejected]:
        """The runs of the document, and of others behind it.

        Raises:
            Malformed: something else stands behind it.
        """
        self._source.shape = "object"
        yield from self._document()
        while self._source.peek():
            at_byte, number = self._source.offset(), self._number
            yield from self._document()
            if number == self._number:
                raise Malformed(at_byte)

    def _document(self) -> Iterator[Record | Rejected]:
        source = self._source
        if source.peek() != b"{":
            raise Malformed(source.offset())
        for name in source.members():
            if name == "runs" and source.peek() == b"[":
                for _ in source.items():
                    if source.peek() == b"{":
                        yield from self._run()
                    else:
                        yield from self._other("runs")
            elif name == "runs":
                yield from self._other(name)
            else:
                source.skip()

    def _other(self, name: str) -> Iterator[Rejected]:
        """Steps over something else in the place of runs or results, where only
        `null` holds nothing.
        """
        source = self._source
        at_byte = source.offset()
        if source.peek() == b"n":
            source.skip()
            return
        source.skip()
        yield reject("WRONG_TYPE", f"{name} does not hold what SARIF says", name, at_byte)

    def _run(self) -> Iterator[Record | Rejected]:
        source = self._source
        self._number += 1
        run = Run(self._number)
        held: list[tuple[bytes | Rejected, int]] = []
        size = 0
        for name in source.members():
            if name == "results" and source.peek() == b"[":
                for raw in source.elements():
                    if size <= _MAX_HELD and not isinstance(raw, Rejected):
                        size += len(raw)
                    held.append((raw, source.at_byte()))
                    if size > _MAX_HELD:
                        yield from self._read(run, held)
                        held.clear()
            elif name == "results":
                yield from self._other(name)
            else:
                self._context(run, name)
        yield from self._read(run, held)

    def _context(self, run: Run, name: str) -> None:
        """What of a run explains its results. A part that cannot be read
        explains nothing, and costs no result.
        """
        source = self._source
        if name == "artifacts" and source.peek() == b"[":
            for raw in source.elements():
                artifact = (
                    None if isinstance(raw, Rejected) else _ARTIFACT.read(raw, source.notices)
                )
                if len(run.artifacts) < _MAX_ARTIFACTS:
                    run.artifacts.append(artifact if isinstance(artifact, Artifact) else Artifact())
        elif name in ("tool", "originalUriBaseIds", "versionControlProvenance"):
            raw = source.value()
            if isinstance(raw, Rejected):
                return
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                if name == "tool":
                    tool = _TOOL.read(raw, source.notices)
                    if isinstance(tool, Tool):
                        run.set_tool(tool)
                        source.tool = source.tool or tool.driver.name or ""
                elif name == "originalUriBaseIds":
                    run.base_uris = _BASE_URIS.decode(raw)
                else:
                    run.version_control = _VERSION_CONTROL.decode(raw)
        else:
            source.skip()

    def _read(
        self, run: Run, held: list[tuple[bytes | Rejected, int]]
    ) -> Iterator[Record | Rejected]:
        for raw, at_byte in held:
            if isinstance(raw, Rejected):
                yield raw
                continue
            found = _RESULT.read(raw, self._source.notices)
            if isinstance(found, Result):
                yield run.record(found, bytes(raw))
            elif found is not None:
                found.at_byte = at_byte
                yield found


def _parse(source: Source) -> Iterator[Record | Rejected]:
    return _Reader(source).documents()


PARSER = Parser(
    id="sarif",
    version="1",
    title="SARIF 2.1.0",
    aliases=("sarif-2.1.0", "sarif2.1.0"),
    shapes=("object",),
    sniff=_sniff,
    parse=_parse,
)
