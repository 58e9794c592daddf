"""Makes up scanner reports, the same for the same seed, in constant memory.

A gitleaks finding takes about 1,032 bytes, as in reports of repositories with
real commit messages. A value comes back now and then at another place; a whole
record does not, up to `corpus.PLACES` findings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

from cli.loading.corpus import Corpus, Row

_BATCH = 256

_GITLEAKS = b"""{
  "RuleID": "%b",
  "Description": "%b",
  "StartLine": %d,
  "EndLine": %d,
  "StartColumn": %d,
  "EndColumn": %d,
  "Match": "%b%b%b",
  "Secret": "%b",
  "File": "%b",
  "SymlinkFile": "",
  "Commit": "%b",
  "Link": "https://github.com/acme/billing/blob/%b/%b#L%d",
  "Entropy": %.6f,
  "Author": "%b",
  "Email": "%b",
  "Date": "%b",
  "Message": "%b",
  "Tags": [],
  "Fingerprint": "%b:%b:%b:%d"
 }"""

_TRUFFLEHOG = (
    b'{"SourceMetadata":{"Data":{"Git":{"commit":"%b","file":"%b","email":"%b \\u003c%b\\u003e",'
    b'"repository":"https://github.com/acme/billing.git","timestamp":"%b","line":%d}}},'
    b'"SourceID":1,"SourceType":16,"SourceName":"trufflehog - git","DetectorType":%d,'
    b'"DetectorName":"%b","DetectorDescription":"%b","DecoderName":"PLAIN","Verified":%b,%b'
    b'"VerificationFromCache":false,"Raw":"%b","RawV2":"","Redacted":"","ExtraData":{"name":"%b"},'
    b'"StructuredData":null}'
)
_VERIFICATION_ERROR = b'"VerificationError":"context deadline exceeded",'

_SARIF = b"""{
     "message": {
      "text": "%b has detected secret for file %b at commit %b."
     },
     "ruleId": "%b",
     "locations": [
      {
       "physicalLocation": {
        "artifactLocation": {
         "uri": "%b"
        },
        "region": {
         "startLine": %d,
         "startColumn": %d,
         "endLine": %d,
         "endColumn": %d,
         "snippet": {
          "text": "%b"
         }
        }
       }
      }
     ],
     "partialFingerprints": {
      "commitSha": "%b",
      "email": "%b",
      "author": "%b",
      "date": "%b",
      "commitMessage": "%b"
     },
     "properties": {
      "tags": []
     }
    }"""

_SARIF_HEAD = b"""{
 "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
 "version": "2.1.0",
 "runs": [
  {
   "tool": {
    "driver": {
     "name": "gitleaks",
     "semanticVersion": "v8.0.0",
     "informationUri": "https://github.com/gitleaks/gitleaks",
     "rules": [%b]
    }
   },
   "results": ["""


def _gitleaks(row: Row) -> bytes:
    rule, value, path, line, end_line, column, commit, entropy, _ = row
    return _GITLEAKS % (
        rule.rule_id,
        rule.description,
        line,
        end_line,
        column,
        column + len(value),
        rule.before,
        value,
        rule.after,
        value,
        path,
        commit.id,
        commit.id,
        path,
        line,
        entropy,
        commit.author,
        commit.email,
        commit.date,
        commit.message,
        commit.id,
        path,
        rule.rule_id,
        line,
    )


def _trufflehog(row: Row) -> bytes:
    rule, value, path, line, _, _, commit, _, twentieth = row
    return _TRUFFLEHOG % (
        commit.id,
        path,
        commit.author,
        commit.email,
        commit.date.replace(b"T", b" ").replace(b"Z", b" +0000"),
        line,
        rule.number,
        rule.detector,
        rule.description,
        b"true" if twentieth == 0 else b"false",
        _VERIFICATION_ERROR if twentieth in (1, 2) else b"",
        value,
        rule.rule_id,
    )


def _sarif(row: Row) -> bytes:
    rule, value, path, line, end_line, column, commit, _, _ = row
    return _SARIF % (
        rule.rule_id,
        path,
        commit.id,
        rule.rule_id,
        path,
        line,
        column,
        end_line,
        column + len(value),
        value,
        commit.id,
        commit.email,
        commit.author,
        commit.date,
        commit.message,
    )


def _sarif_head(corpus: Corpus) -> bytes:
    rule = b'{"id": "%b", "shortDescription": {"text": "%b"}}'
    return _SARIF_HEAD % b", ".join(
        rule % (r.rule_id, r.description) for r in corpus.distinct_rules
    )


# Format -> one record, separator, what closes the file; what opens it depends on the corpus.
_FORMATS: dict[str, tuple[Callable[[Row], bytes], bytes, bytes]] = {
    "gitleaks": (_gitleaks, b",\n ", b"\n]\n"),
    "trufflehog": (_trufflehog, b"\n", b"\n"),
    "sarif": (_sarif, b",\n    ", b"\n   ]\n  }\n ]\n}\n"),
}
FORMATS = tuple(_FORMATS)


def generate(report_format: str, findings: int, seed: int = 1) -> Iterator[bytes]:
    """Yields a report of `findings` records in pieces of about a quarter of a MiB.

    Raises:
        KeyError: `report_format` is not one of `FORMATS`.
    """
    return written(report_format, findings, Corpus(seed))


def written(
    report_format: str, findings: int, corpus: Corpus, rng: random.Random | None = None
) -> Iterator[bytes]:
    """The same, drawn from a corpus that is there already.

    Args:
        rng: what draws, if not the corpus itself, where its last report ended.
    """
    record, separator, end = _FORMATS[report_format]
    opening = {"gitleaks": b"[\n ", "trufflehog": b"", "sarif": b"\n    "}[report_format]
    if report_format == "sarif":
        opening = _sarif_head(corpus) + opening
    rows = corpus.rows(findings, rng)
    before = opening
    while batch := separator.join(map(record, islice(rows, _BATCH))):
        yield before + batch
        before = separator
    yield end if findings else opening.rstrip(b" \n") + end.lstrip(b"\n")
