"""The script in docs/audit.md checks a proof with nothing of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import log, notes

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "audit.md"
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def _checked(folder: Path, proof: notes.Proof, key: Ed25519PrivateKey) -> bool:
    (script,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (folder / "check.py").write_text(script)
    (folder / "event.tlog-proof").write_text(notes.write_proof(proof))
    (folder / "key.pem").write_text(notes.pem(key.public_key()))
    ran = subprocess.run(
        [sys.executable, "-I", "check.py", "event.tlog-proof", "key.pem"],
        cwd=folder,
        capture_output=True,
    )
    return ran.returncode == 0 and proof.leaf in ran.stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_documented_script_accepts_a_proof_and_no_other(tmp_path: Path) -> None:
    leaves = [b'{"number":%d}' % number for number in range(21)]
    hashes = [log.leaf_hash(leaf) for leaf in leaves]
    note = notes.sign(KEY, len(leaves), log.root(hashes)).note
    for index in (0, 7, 16, 20):
        spans = log.inclusion_spans(index, len(leaves))
        path = [log.root(hashes[start:end]) for start, end in spans]
        assert _checked(tmp_path, notes.Proof(leaves[index], index, path, note), KEY)
    assert not _checked(tmp_path, notes.Proof(b"{}", 20, path, note), KEY)
    right = notes.Proof(leaves[20], 20, path, note)
    assert not _checked(tmp_path, right, Ed25519PrivateKey.generate())
