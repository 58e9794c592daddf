"""Results as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from cli.terminal import counted, listed, plain

Json = dict[str, Any]

RISKS = ("high", "medium", "low")
_ORDER = {risk: number for number, risk in enumerate(RISKS)}
_STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


def report(
    console: Console, answer: Json, name: str, limit: int, *, replayed: bool = False
) -> None:
    """One report: its findings, the riskiest first, and its account.

    Args:
        console: where to.
        answer: the report with its findings.
        name: what the user knows it by.
        limit: rows at most; 0 for all.
        replayed: whether its key had been answered before.
    """
    findings = sorted(answer["findings"], key=lambda f: _ORDER.get(f["risk"], len(_ORDER)))
    shown = findings[:limit] if limit else findings
    if ended := answer.get("shredded_at"):
        console.print(
            plain(f"shredded {_moment(ended)}: its bytes and the values in it are gone for good")
        )
    if shown:
        table = _table("#", "risk", "where", "rule", "value", "reason", "by")
        for finding in shown:
            risk = finding["risk"] or "–"
            table.add_row(
                plain(finding["id"].rpartition(".")[2]),
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
    console.print(plain(f"{name}: {_account(answer)}{_before(answer, replayed)}"))
    _notices(console, answer.get("notices", []))
    if rejected_count := answer.get("records", {}).get("rejected", 0):
        console.print(
            plain(
                f"  {counted(rejected_count, 'record')} could not be read: winnow rejected {answer['report_id']}"
            )
        )


def unended(console: Console, answer: Json, name: str, *, replayed: bool = False) -> None:
    """One report whose verdicts were not waited for; as `report`."""
    report_id = answer["report_id"]
    line = f"{name}: {answer['status']} · {report_id}{_before(answer, replayed)}"
    console.print(plain(f"{line} · winnow watch {report_id}"), soft_wrap=True)


def finding(console: Console, answer: Json) -> None:
    """One finding: what it is, every verdict on it, and what each stage saw."""
    found = answer["finding"]
    detail = found["detail"]
    told = (
        ("finding", found["id"]),
        ("where", _place(found)),
        ("rule", f"{detail['tool']} {found['rule']}"),
        ("value", found["value_preview"]),
        ("fingerprint", detail["value_fingerprint"] or "–"),
        ("commit", found["commit"] or "–"),
    )
    for name, text in told:
        console.print(plain(f"{name:12} {text}"))
    if aliases := ", ".join(detail["aliases"]):
        # Of a secret, the scanners that saw it; of all else, its other names.
        how = "also reported by" if found["kind"] == "possible_secret" else "also known as"
        console.print(plain(f"{how} {aliases}"))
    table = _table("decided", "risk", "by", "reason")
    for verdict in answer["verdicts"]:
        table.add_row(
            plain(_moment(verdict["decided_at"])),
            plain(_verdict(verdict), _STYLES.get(verdict["risk"], "")),
            plain(verdict["decided_by"]),
            plain(verdict["reason"]),
        )
    console.print()
    console.print(table)
    seen = _table("stage", "weight", "evidence", "what it says")
    for one in detail["evidence"]:
        seen.add_row(
            plain(one["stage"]), f"{one['weight']:+.1f}", plain(one["rule"]), plain(one["detail"])
        )
    console.print()
    console.print(seen)


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
    listed(console, table)


def events(console: Console, answers: list[Json]) -> None:
    """A report's audit trail: what each event says beside which report, and how far it was."""
    table = _table("#", "when", "event", "service", "id", "payload")
    for answer in answers:
        event = answer["event"]
        told = {
            name: value
            for name, value in sorted((event["payload"] or {}).items())
            if value != "" and name not in ("progress", "report_id")
        }
        table.add_row(
            plain(str(answer["sequence"])),
            plain(_moment(event["occurred_at"])),
            plain(event["event_type"]),
            plain(event["service"]),
            plain(event["event_id"]),
            plain(", ".join(f"{name}={_short(value)}" for name, value in told.items())),
        )
    listed(console, table)


def rejected(console: Console, answers: list[Json]) -> None:
    """Records that could not be read."""
    table = _table("record", "at byte", "reason", "field", "what is wrong")
    for answer in answers:
        table.add_row(
            str(answer["ordinal"]),
            str(answer["at_byte"]),
            plain(str(answer["reason"])),
            plain(answer["field"]),
            plain(answer["detail"]),
        )
    listed(console, table)


def credentials(console: Console, answers: list[Json]) -> None:
    """Credentials over all reports."""
    table = _table(
        "fingerprint", "value", "risk", "findings", "reports", "paths", "tools", "last seen"
    )
    for answer in answers:
        table.add_row(*_credential(answer))
    listed(console, table)


def sightings(console: Console, answer: Json) -> None:
    """One credential, and where it was seen."""
    credentials(console, [answer["credential"]])
    console.print()
    table = _table("seen", "risk", "where", "commit", "rule", "scanner", "from", "finding")
    for sighting in answer["sightings"]:
        table.add_row(
            plain(_moment(sighting["seen_at"])),
            plain(str(sighting["risk"] or "–"), _STYLES.get(sighting["risk"], "")),
            plain(_place(sighting)),
            plain(sighting["commit"][:12]),
            plain(sighting["rule"]),
            plain(sighting["scanner_type"]),
            plain(sighting["asset_key"]),
            plain(sighting["finding_id"]),
        )
    console.print(table)
    if answer["next_page_token"]:
        console.print(plain("… and more (--limit shows more)"))


def preview(console: Console, answer: Json) -> None:
    """What a decision on many would decide."""
    table = _table("risk", "where", "rule", "value", "by")
    for finding in answer["sample"]:
        table.add_row(
            plain(str(finding["risk"] or "–"), _STYLES.get(finding["risk"], "")),
            plain(_place(finding)),
            plain(finding["rule"]),
            plain(finding["value_preview"]),
            plain(str(finding["source"] or "")),
        )
    console.print(table)
    if (more := answer["matched"] - len(answer["sample"])) > 0:
        console.print(plain(f"… and {more} more"))
    console.print(
        plain(
            f"{counted(answer['matched'], 'matching finding')}: "
            f"{counted(answer['decisions'], 'decision')}, "
            f"{counted(answer['findings'], 'finding')} over all reports"
        )
    )


def decisions(console: Console, answers: list[Json]) -> None:
    """Decisions."""
    table = _table("decision", "when", "outcome", "scope", "by", "until", "finding", "reason")
    for answer in answers:
        table.add_row(
            plain(answer["decision_id"]),
            plain(_moment(answer["decided_at"])),
            plain(str(answer["outcome"])),
            plain(str(answer["scope"])),
            plain(answer["actor"]),
            plain(_moment(answer["ends_at"])),
            plain(answer["finding_id"]),
            plain(answer["reason"]),
        )
    listed(console, table)


def rejudged(console: Console, answer: Json, mode: str) -> None:
    """What came of judging a report once more."""
    if answer["changes"]:
        table = _table("finding", "was", "is", "by", "why")
        for change in answer["changes"]:
            before, after = change["before"], change["after"]
            table.add_row(
                plain(change["finding_id"]),
                plain(_verdict(before), _STYLES.get(before["risk"], "")),
                plain(_verdict(after), _STYLES.get(after["risk"], "")),
                plain(after["decided_by"]),
                plain(after["reason"]),
            )
        console.print(table)
    if len(answer["changes"]) < answer["changed"]:
        console.print(plain(f"… and {answer['changed'] - len(answer['changes'])} more"))
    words = {"replay": "came out otherwise", "preview": "would change", "apply": "changed"}[mode]
    summary = ", ".join(f"{answer['summary'][risk]} {risk}" for risk in RISKS)
    console.print(
        plain(
            f"{counted(answer['judged'], 'verdict')}: {answer['same']} the same, {answer['changed']} {words}; "
            f"the report stands at {summary}"
        )
    )


def _verdict(verdict: Json) -> str:
    sure = verdict["confidence"]
    return f"{verdict['risk']}" + ("" if sure is None else f" {sure:.2f}")


def formats(console: Console, answers: list[Json]) -> None:
    """Formats that are read."""
    table = _table("scanner", "reads", "versions", "shapes", "also accepted as")
    for answer in answers:
        table.add_row(
            plain(answer["id"]),
            plain(answer["title"]),
            plain(answer["versions"]),
            plain(", ".join(answer["shapes"])),
            plain(", ".join(answer["aliases"])),
        )
    console.print(table)


def reading(console: Console, answer: Json, name: str) -> None:
    """What was read of a report that was judged by nobody.

    Args:
        console: where to.
        answer: as `winnow parse --format json` writes it, with as many findings and
            rejected records as are to be shown.
        name: what the user knows the report by.
    """
    found, records = answer["findings"], answer["records"]
    if found:
        table = _table("record", "where", "rule", "value", "kind")
        for finding in found:
            table.add_row(
                str(finding["ordinal"]),
                plain(_subject(finding)),
                plain(finding["rule_id"]),
                plain(finding["value_preview"]),
                plain(str(finding["kind"])),
            )
        console.print(table)
    if len(found) < records["findings"]:
        console.print(plain(f"… and {records['findings'] - len(found)} more (--limit 0 shows all)"))
    if answer["rejected"]:
        rejected(console, answer["rejected"])
    form = answer["format"]
    told = [
        form["scanner_type"] or "no scanner named",
        form["dialect"],
        form["tool"],
        form["shape"],
    ]
    console.print(plain(f"{name}: {', '.join(dict.fromkeys(filter(None, told)))}"))
    console.print(
        plain(
            f"  {counted(records['read'], 'record')} read = {counted(records['findings'], 'finding')} + "
            f"{records['merged']} merged + {records['rejected']} rejected"
        )
    )
    _notices(console, answer["notices"])


def _subject(finding: Json) -> str:
    if "package" in finding:
        package = finding["package"]
        return str(package["purl"] or f"{package['component_ref']} {package['version']}")
    location = finding.get("code", {}).get("location", {"path": "", "line": 0})
    return _place(location)


def _credential(answer: Json) -> tuple[Any, ...]:
    return (
        plain(answer["fingerprint"]),
        plain(answer["value_preview"]),
        plain(str(answer["risk"] or "–"), _STYLES.get(answer["risk"], "")),
        str(answer["findings"]),
        str(answer["reports"]),
        str(answer["paths"]),
        plain(", ".join(answer["tools"])),
        plain(_moment(answer["last_seen_at"])),
    )


def _notices(console: Console, notices: list[Json]) -> None:
    for notice in notices:
        about = f" {notice['field']}" if notice["field"] else ""
        number = notice["records"]
        count = f" ({number} record{'s' if number != 1 else ''})" if number else ""
        kind = str(notice["kind"]).replace("_", " ")
        console.print(plain(f"  {kind}{about}{count}: {notice['detail']}"))


# Columns of ids: to be copied, so that they stay on one line.
_IDS = frozenset({"#", "decision", "finding", "fingerprint", "id", "report"})


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _IDS)
    return table


def _place(finding: Json) -> str:
    return f"{finding['path']}:{finding['line']}" if finding["line"] else str(finding["path"])


def _account(answer: Json) -> str:
    summary = answer.get("summary", {})
    records = answer.get("records", {})
    parts = [", ".join(f"{summary.get(risk, 0)} {risk}" for risk in RISKS)]
    parts.append(f"{counted(records.get('read', 0), 'record')} read")
    parts += [f"{n} {what}" for what in ("merged", "rejected") if (n := records.get(what, 0))]
    parts.append(f"{answer['scanner_type'] or 'no scanner named'}, {answer['status']}")
    return f"{' · '.join(parts)} · {answer['report_id']}"


def _before(answer: Json, replayed: bool) -> str:
    """What of this submission had been there before."""
    same = f" · same bytes as {first}" if (first := answer.get("duplicate_of")) else ""
    return f"{same} · answered before" if replayed else same


def _moment(stamp: str | None) -> str:
    return f"{stamp[:19].replace('T', ' ')}Z" if stamp else ""


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_short(item)}" for k, item in sorted(value.items())) + "}"
    return str(value)
