"""What the code does not do: hand text to a shell or an interpreter, unpack objects,
wait without end, compare what must stay secret as one compares words.

ruff's rules of the group S (flake8-bandit) look for most of it line by line; here it
is the whole tree, and nothing can be waved through by a comment.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("runtime", "ingestor", "moderator", "orchestrator", "audit", "gateway", "cli"),
    *("migrations", "tools", "bench"),
)
FILES = sorted(file for name in PACKAGES for file in (ROOT / name).rglob("*.py"))
SERVED = [file for file in FILES if file.relative_to(ROOT).parts[0] not in ("tools", "bench")]

# What makes objects of bytes, or speaks in the clear.
UNSAFE_MODULES = {
    *("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"),
    *("jsonpickle", "commands", "pty", "telnetlib", "ftplib", "xmlrpc", "imp", "pdb"),
    *("xml.dom.pulldom", "xml.sax", "xml.dom.minidom", "xml.etree.ElementTree", "lxml"),
}
UNSAFE_CALLS = re.compile(
    r"(?:builtins\.)?(?:eval|exec|compile|__import__)"
    r"|os\.(?:system|popen\w*|exec[lv]p?e?|spawn\w+|startfile|tempnam|tmpnam)"
    r"|subprocess\.(?:getoutput|getstatusoutput)|asyncio\.create_subprocess_shell"
    r"|tempfile\.mktemp|yaml\.(?:load|load_all|full_load\w*|unsafe_load\w*)"
    r"|\w+\.read_pickle|ssl\._create_unverified_context"
)
# What waits for somebody else: for five seconds unless told otherwise, or for ever.
PATIENT = re.compile(r"httpx2?\.(?:Client|AsyncClient|get|post|put|patch|delete|request|stream)")
ENDLESS = re.compile(r"requests\.\w+|(?:urllib\.request\.)?urlopen|socket\.create_connection")
SECRET_NAME = re.compile(r"(?:^|_)(?:h?mac|signature|password|secret|digest|hexdigest)s?$")
# Comparisons that such a name stands in, and why none of them tells anybody anything.
PUBLIC = {
    "audit/notes.py": "the four bytes before a signature name its key; Ed25519 is checked by "
    "the library",
    "cli/wire.py": "a SHA-256 without a key, of what the server itself has sent",
    "orchestrator/intake.py": "a SHA-256 without a key, of what the caller himself has sent",
    "orchestrator/store_idempotency.py": "columns, in SQL that is composed: the database looks "
    "the key's digest up",
    "runtime/paging.py": "a SHA-256 without a key, of the query that the token came with",
}


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes(), str(file))


def where(file: Path, node: ast.AST) -> str:
    return f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, by the name that is called."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def modules(file: Path) -> Iterator[str]:
    """Every module that a file imports, and what it takes from there."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unsafe(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in UNSAFE_MODULES)


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((one.value for one in call.keywords if one.arg == name), None)


def is_constant(value: ast.expr | None, expected: object) -> bool:
    return isinstance(value, ast.Constant) and value.value is expected


def secret_names(node: ast.expr) -> Iterator[str]:
    """The names in one side of a comparison that sound like what a key has made."""
    for part in ast.walk(node):
        name = part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", "")
        if SECRET_NAME.search(name):
            yield name


def test_all_code_is_looked_at() -> None:
    assert len(FILES) > 100
    kept = {name for name in PACKAGES if (ROOT / name / "__init__.py").exists()}
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["packages"]
    assert set(known) <= kept


def test_nothing_is_given_to_a_shell_or_an_interpreter() -> None:
    found = [
        where(file, call)
        for file in FILES
        for name, call in calls(file)
        if UNSAFE_CALLS.fullmatch(name)
        or not (keyword(call, "shell") is None or is_constant(keyword(call, "shell"), False))
    ]
    assert found == []


def test_no_bytes_are_made_objects() -> None:
    found = [
        f"{file.relative_to(ROOT)} {name}"
        for file in FILES
        for name in modules(file)
        if unsafe(name)
    ]
    found += [
        where(file, call)
        for file in FILES
        for _, call in calls(file)
        if keyword(call, "allow_pickle") is not None
        and not is_constant(keyword(call, "allow_pickle"), False)
    ]
    assert found == []


def test_every_client_has_a_time_limit_and_verifies() -> None:
    seen, found = 0, []
    for file in SERVED:
        for name, call in calls(file):
            if is_constant(keyword(call, "verify"), False):
                found.append(where(file, call))
            patient, limit = PATIENT.fullmatch(name), keyword(call, "timeout")
            seen += bool(patient)
            if is_constant(limit, None) and (patient or ENDLESS.fullmatch(name)):
                found.append(where(file, call))
            if limit is None and ENDLESS.fullmatch(name):
                found.append(where(file, call))
    assert found == []
    assert seen


def test_nothing_that_a_key_has_made_is_compared_with_equals() -> None:
    found = set()
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Compare) and any(
                isinstance(one, ast.Eq | ast.NotEq) for one in node.ops
            ):
                sides = [node.left, *node.comparators]
                constant = any(isinstance(side, ast.Constant) for side in sides)
                if not constant and any(name for side in sides for name in secret_names(side)):
                    found.add(str(file.relative_to(ROOT)))
    assert found == set(PUBLIC)


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("eval(text)", True),
        ("os.system(text)", True),
        ("yaml.load(text)", True),
        ("yaml.safe_load(text)", False),
        ("re.compile(text)", False),
        ("model.eval()", False),
    ],
)
def test_unsafe_calls_are_told_from_others(code: str, seen: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert bool(UNSAFE_CALLS.fullmatch(ast.unparse(call.func))) == seen


def test_ruff_looks_for_the_rest_and_few_rules_are_off() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    off = {rule for rule in lint["ignore"] if re.match(r"S\d", rule)}
    assert off == {"S101", "S603", "S607"}
    assert set(lint["per-file-ignores"]) == {"tests/**", "tools/**", "bench/**"}
