"""The tools around the model: figures by their definitions, records as findings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cli.evaluation.figures import figures, reliability
from cli.evaluation.records import load, reporters, subject
from tools.training.evaluate import in_process, measured, predict
from tools.training.rows import rows
from winnow.finding.v1.finding_pb2 import VALUE_STATE_DIGEST, VALUE_STATE_PRESENT

RECORD = {
    "id": "one",
    "label": True,
    "path": "deploy/prod.env",
    "line": "TOKEN=abcdefgh",
    "value": "abcdefgh",
    "value_alt": "riverside",
    "line_alt": "TOKEN=riverside",
    "variable": "TOKEN",
    "reported_by": {"credsweeper": ["Token"], "gitleaks": ["generic-api-key"]},
}


def test_figures_of_a_perfect_and_of_a_useless_order() -> None:
    labels = np.array([True, True, False, False, False])
    best = figures(labels, np.array([0.9, 0.8, 0.2, 0.1, 0.0]))
    assert (best.f1, best.average_precision, best.roc_auc, best.gone) == (1, 1, 1, 1)
    same = figures(labels, np.full(5, 0.5))
    assert same.average_precision == pytest.approx(0.4)
    assert same.roc_auc == pytest.approx(0.5)
    assert (same.recall, same.precision, same.gone) == (1, 0.4, 0)


def test_figures_by_hand() -> None:
    labels = np.array([True, False, True, False])
    found = figures(labels, np.array([0.9, 0.8, 0.6, 0.1]))
    assert found.precision == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(0.8)
    assert found.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert found.roc_auc == pytest.approx(0.75)
    assert found.gone == pytest.approx(0.5)
    assert found.ece == pytest.approx((0.1 + 0.8 + 0.4 + 0.1) / 4)


def test_figures_need_both_kinds() -> None:
    with pytest.raises(ValueError, match="real"):
        figures(np.array([True, True]), np.array([0.1, 0.2]))


def test_reliability_bins_hold_everything() -> None:
    scores = np.linspace(0, 1, 50)
    bins = reliability(scores > 0.5, scores)
    assert sum(one.share for one in bins) == pytest.approx(1)
    assert all(0 <= one.real <= 1 for one in bins)


def test_a_record_is_its_first_reporters_finding() -> None:
    seen = reporters(RECORD)
    assert seen == [("gitleaks", "generic-api-key"), ("credsweeper", "Token")]
    one = subject(RECORD, seen, correlated=True)
    assert (one.finding.tool, one.finding.rule_id) == ("gitleaks", "generic-api-key")
    assert list(one.finding.aliases) == ["gitleaks/generic-api-key", "credsweeper/Token"]
    assert not subject(RECORD, seen).finding.aliases
    assert one.finding.value_state == VALUE_STATE_PRESENT
    assert one.evidence is not None
    assert one.evidence.match == RECORD["line"]


def test_credsweeper_has_no_word_where_it_was_trained() -> None:
    assert reporters(RECORD | {"identifier_category": False}) == [("gitleaks", "generic-api-key")]


def test_versions_of_a_record() -> None:
    worded = subject(RECORD, [], words=True)
    assert worded.evidence is not None
    assert (worded.evidence.value, worded.evidence.match) == ("riverside", "TOKEN=riverside")
    bare = subject(RECORD, [], value=False, line=False, variable=False)
    assert bare.finding.value_state == VALUE_STATE_DIGEST
    assert bare.evidence is not None
    assert not bare.evidence.value + bare.evidence.match + bare.evidence.variable


def test_labels_do_not_reach_the_finding() -> None:
    for key in ("label", "wordlike", "identifier_category", "cs_prob", "severity", "kind"):
        one = subject(RECORD | {key: "telltale"}, reporters(RECORD))
        assert "telltale" not in str(one)


def test_labelled_files_are_read_and_bad_lines_named(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl.gz"
    path.write_bytes(
        gzip.compress((json.dumps(RECORD) + '\n{"id": "x", "label": null}\n').encode())
    )
    assert [record["id"] for record in load(path)] == ["one"]
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(RECORD) + "\nnonsense\n")
    with pytest.raises(ValueError, match="line 2") as caught:
        list(load(bad))
    assert "nonsense" not in str(caught.value)


def test_predictions_come_from_the_pipeline() -> None:
    judge, sealer = in_process("balanced")
    other = RECORD | {"id": "two", "label": False, "value": "${TOKEN}", "line": "TOKEN=${TOKEN}"}
    password = "Harbour7" + "lantern!"
    real = RECORD | {
        "value": password,
        "line": f"DB_PASSWORD={password}",
        "variable": "DB_PASSWORD",
    }
    records = [real, other]
    predictions = predict(records, judge, sealer)
    assert [one.id for one in predictions] == ["one", "two"]
    assert predictions[0].score > predictions[1].score
    assert measured(records, predictions).average_precision == 1


def test_what_was_found_joins_in_by_form_where_its_label_holds() -> None:
    by_rule = RECORD | {"identifier_category": False, "repo": "a"}
    real = RECORD | {"origin": "natural", "kind": "token", "source": "b"}
    template = real | {"label": False, "kind": "placeholder", "source": "c"}
    fixture = real | {"label": False, "kind": "test", "source": "d"}
    planted = real | {"origin": "planted", "source": "e"}
    records = [by_rule, real, template, fixture, planted]
    assert set(rows(records, form=True, real=0.5, seed=0).groups) == {"a", "b", "c"}
    assert set(rows(records, form=False, real=0.5, seed=0).groups) == {"a", "b", "c", "d", "e"}
