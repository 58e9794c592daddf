"""Results as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from cli.terminal import plain

Json = dict[str, Any]

RISKS = ("high", "medium", "low")
_ORDER = {risk: number for number, risk in enumerate(RISKS)}
_STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


def report(console: Console, answer: Json, name: str, limit: int) -> None:
    """One report: its findings, the riskiest first, and its account.

    Args:
        console: where to.
        answer: the report with its findings.
        name: what the user knows it by.
        limit: rows at most; 0 for all.
    """
    findings = sorted(answer["findings"], key=lambda f: _ORDER.get(f["risk"], len(_ORDER)))
    shown = findings[:limit] if limit else findings
    if shown:
        table = _table("risk", "where", "rule", "value", "reason", "by")
        for finding in shown:
            risk = finding["risk"] or "–"
            table.add_row(
                plain(str(risk), _STYLES.get(risk, "")),
                plain(_place(finding)),
                plain(finding["rule"]),
                plain(finding["value_preview"]),
                plain(finding["reason"] or ""),
                plain(str(finding["source"] or "")),
            )
        console.print(table)
    if len(shown) < len(findings):
        console.print(plain(f"… and {len(findings) - len(shown)} more (--limit 0 shows all)"))
    console.print(plain(f"{name}: {_account(answer)}"))


def reports(console: Console, answers: list[Json]) -> None:
    """A list of reports."""
    table = _table("report", "created", "scanner", "status", *RISKS, "from")
    for answer in answers:
        summary = answer.get("summary", {})
        table.add_row(
            plain(answer["report_id"]),
            plain(_moment(answer["created_at"])),
            plain(answer["scanner_type"]),
            plain(str(answer["status"])),
            *(plain(str(summary.get(risk, 0))) for risk in RISKS),
            plain(answer.get("source", {}).get("repository", "")),
        )
    console.print(table)


def events(console: Console, answers: list[Json]) -> None:
    """An audit trail."""
    table = _table("#", "when", "event", "service", "request", "payload")
    for answer in answers:
        event = answer["event"]
        payload = event["payload"] or {}
        table.add_row(
            plain(str(answer["sequence"])),
            plain(_moment(event["occurred_at"])),
            plain(event["event_type"]),
            plain(event["service"]),
            plain(event["request_id"]),
            plain(", ".join(f"{k}={_short(v)}" for k, v in sorted(payload.items()) if v != "")),
        )
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _place(finding: Json) -> str:
    return f"{finding['path']}:{finding['line']}" if finding["line"] else str(finding["path"])


def _account(answer: Json) -> str:
    summary = answer.get("summary", {})
    records = answer.get("records", {})
    parts = [", ".join(f"{summary.get(risk, 0)} {risk}" for risk in RISKS)]
    parts.append(f"{records.get('read', 0)} records read")
    parts += [f"{n} {what}" for what in ("merged", "rejected") if (n := records.get(what, 0))]
    parts.append(f"{answer['scanner_type'] or 'no scanner named'}, {answer['status']}")
    return f"{' · '.join(parts)} · {answer['report_id']}"


def _moment(stamp: str | None) -> str:
    return f"{stamp[:19].replace('T', ' ')}Z" if stamp else ""


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_short(item)}" for k, item in sorted(value.items())) + "}"
    return str(value)
