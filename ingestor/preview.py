"""A credential's masked form."""

from __future__ import annotations

import re

from winnow.finding.v1 import finding_pb2 as pb

# Public prefixes: the same for every credential of their kind.
_PREFIXES = (
    *("AKIA", "ASIA", "ABIA", "ACCA", "AIza", "GOCSPX-", "ya29.", "eyJ", "SG.", "xapp-"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gldt-", "glrt-", "glptt-"),
    *("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "https://hooks.slack.com/"),
    *("sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "pk_test_", "whsec_"),
    *("sk-ant-", "sk-proj-", "sk-svcacct-", "sk-admin-", "npm_", "pypi-", "rubygems_", "hf_"),
    *("shpat_", "shpca_", "shppa_", "shpss_", "dop_v1_", "doo_v1_", "dor_v1_", "dckr_pat_"),
    *("hvs.", "hvb.", "dapi", "AGE-SECRET-KEY-1", "ATATT3", "lin_api_", "glsa_", "NRAK-"),
)
_LONGEST = re.compile("|".join(re.escape(p) for p in sorted(_PREFIXES, key=len, reverse=True)))
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_LEAST_HIDDEN = 8  # a prefix is shown only before at least so many characters


def preview(value: str, state: pb.ValueState.ValueType) -> str:
    """A credential in a form that is safe to show: at most its provider's
    public prefix, and its length.
    """
    if state == pb.VALUE_STATE_PRESENT:
        prefix = ""
        if value.startswith(_PREFIXES) and (longest := _LONGEST.match(value)):
            prefix = longest[0]
        elif value.startswith("-----BEGIN ") and (header := _PEM.match(value)):
            prefix = header[0]
        if len(value) - len(prefix) < _LEAST_HIDDEN:
            prefix = ""
        return f"{prefix}… ({len(value)} characters)"
    if state == pb.VALUE_STATE_REDACTED:
        return "(redacted by the scanner)"
    if state == pb.VALUE_STATE_DIGEST:
        return "(only a digest is in the report)"
    return "(not in the report)" if state == pb.VALUE_STATE_ABSENT else ""
