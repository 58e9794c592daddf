"""The audit log from outside: verify it, prove an event, check a proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.usage import DEFAULT_SERVER, ListFormat, complain, embedded_url, opened, reporting_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from audit.publishing import Published
    from audit.verify import Fault, Finding

Json = dict[str, Any]

WRONG = 1
_MOST_PROOF = 1 << 20
_PASSWORD = "postgres_password"  # noqa: S105 -- the name of a file

audit_app = typer.Typer(
    name="audit", no_args_is_help=True, help="Verify the audit log, prove events, check proofs."
)

_Server = Annotated[
    str,
    typer.Option(
        envvar="WINNOW_SERVER",
        help="http://host:port or https://host (REST), or grpc://host:port (audit service).",
    ),
]
_Format = Annotated[ListFormat, typer.Option("--format")]
_Key = Annotated[
    str,
    typer.Option(
        metavar="KEY|FILE", help="The log's public key, or a file with it: as `public-key` prints."
    ),
]


@audit_app.command()
def verify(
    database_url: Annotated[
        str,
        typer.Option(
            envvar="WINNOW_DATABASE_URL",
            help="The log's database, to be read; that of `winnow up` if not given.",
            show_default=False,
        ),
    ] = "",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="What was published: the folder, or a file with checkpoints "
            r"\[default: DATA_DIR/checkpoints]."
        ),
    ] = None,
    public_key: _Key = "",
    data_dir: Annotated[
        Path | None, typer.Option(help="The data directory of `winnow up`.")
    ] = None,
    output: _Format = ListFormat.TABLE,
) -> None:
    """Read the whole log and compare it with what was signed and published.

    Exit codes: 0 it is what was signed, 1 it was altered (the first wrong event is
    named), 2 it cannot be verified.
    """
    from cli.errors import ClientError
    from cli.terminal import dump
    from cli.usage import default_data_dir

    home = (data_dir or default_data_dir()).expanduser().resolve()
    own = home / "checkpoints"
    folder = checkpoint or own
    with reporting_errors():
        url = database_url or embedded_url(home)
        if not folder.exists():
            raise ClientError(
                f"no published checkpoint in {folder}; name one with --checkpoint "
                "(`winnow audit checkpoint > FILE` writes it)"
            )
        # A database that was named need not be that of the default directory.
        ours = data_dir is not None or not database_url
        key = _read_key(public_key or _key_beside(folder, *([own] if ours else [])))
        found = _verified(url, key, _read_published(folder, key))
    if output is ListFormat.JSON:
        print(dump(_as_json(found)))
    else:
        _say(found)
    if found.fault is not None:
        raise typer.Exit(WRONG)


@audit_app.command()
def prove(
    event_id: Annotated[
        str, typer.Argument(metavar="EVENT", help="The event's id, as `winnow events` shows it.")
    ],
    server: _Server = DEFAULT_SERVER,
) -> None:
    """Write the proof that an event stands in the log, for `winnow audit check`.

    It is whole in itself (C2SP tlog-proof): the event, its place, the hashes from it
    to the root, and the signed checkpoint.
    """
    from audit import notes
    from cli.client import connect
    from cli.errors import ClientError

    with reporting_errors():
        answer = connect(server).event_proof(event_id)
        proof = notes.Proof(
            _leaf(answer["event"]),
            answer["proof"]["leaf_index"],
            [bytes.fromhex(value) for value in answer["proof"]["hashes"]],
            answer["checkpoint"]["note"],
        )
        try:
            # A proof that would not hold is no proof to give away.
            notes.check_proof(proof, _served_key(answer["checkpoint"]))
        except notes.NoteError as error:
            raise ClientError(f"the server's proof does not hold: {error}") from None
    print(notes.write_proof(proof), end="")


@audit_app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="PROOF", help="What `prove` wrote; - for stdin.")],
    public_key: _Key,
    output: _Format = ListFormat.TABLE,
) -> None:
    """Check a proof, with nothing but the public key: no server, no database.

    Exit codes: 0 it holds, 1 it does not, 2 it cannot be read.
    """
    from audit import notes
    from cli.errors import ClientError
    from cli.terminal import dump, escape

    with reporting_errors():
        key = _read_key(public_key)
        with opened(file) as data:
            text = data.read(_MOST_PROOF)
        try:
            proof = notes.read_proof(text.decode())
        except (notes.NoteError, UnicodeDecodeError) as error:
            what = str(error) if isinstance(error, notes.NoteError) else "not UTF-8"
            raise ClientError(what) from None
    try:
        checkpoint = notes.check_proof(proof, key)
    except notes.NoteError as error:
        complain(f"the proof does not hold: {error}")
        raise typer.Exit(WRONG) from None
    if output is ListFormat.JSON:
        print(
            dump(
                {
                    "leaf": proof.leaf.decode(),
                    "sequence": proof.index,
                    "tree_size": checkpoint.size,
                    "root_hash": checkpoint.root.hex(),
                }
            )
        )
        return
    print(f"the proof holds: event {proof.index} of a log of {checkpoint.size}")
    print(escape(proof.leaf.decode()))


@audit_app.command()
def checkpoint(server: _Server = DEFAULT_SERVER, output: _Format = ListFormat.TABLE) -> None:
    """Print the newest signed checkpoint: keep it where nobody who runs Winnow can write."""
    from cli.client import connect
    from cli.terminal import dump

    with reporting_errors():
        answer = connect(server).checkpoint()
    print(dump(answer) if output is ListFormat.JSON else answer["note"].removesuffix("\n"))


@audit_app.command("public-key")
def public_key(
    server: _Server = DEFAULT_SERVER,
    pem: Annotated[bool, typer.Option("--pem", help="As openssl reads it.")] = False,
) -> None:
    """Print the key that verifies checkpoints; compare it with one from elsewhere."""
    from audit import notes
    from cli.client import connect

    with reporting_errors():
        key = _served_key(connect(server).checkpoint())
    print(notes.pem(key) if pem else notes.verifier(key), end="" if pem else "\n")


def _read_key(given: str) -> Ed25519PublicKey:
    """The key, or that of the file."""
    from audit import notes
    from cli.errors import ClientError

    try:
        return notes.read_key(given)
    except notes.NoteError as error:
        if not Path(given).is_file():
            raise ClientError(f"--public-key: {error}; nor is it a file") from None
    with opened(given) as data:
        text = data.read(_MOST_PROOF)
    try:
        return notes.read_key(text.decode("ascii"))
    except (notes.NoteError, UnicodeDecodeError):
        raise ClientError(f"{given}: it holds no public key") from None


def _key_beside(*folders: Path) -> str:
    """The file with the public key, of the first folder that has one."""
    from audit import publishing
    from cli.errors import ClientError

    for folder in folders:
        if (file := folder / publishing.PUBLIC_KEY).is_file():
            return str(file)
    raise ClientError(
        "no public key: name one with --public-key (`winnow audit public-key` prints it)"
    )


def _read_published(folder: Path, key: Ed25519PublicKey) -> Published:
    from audit import notes, publishing
    from cli.errors import ClientError

    try:
        found = publishing.read_published(folder, key)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise ClientError(
            f"the published checkpoint cannot be read: {reason} ({folder}); name it with --checkpoint"
        ) from None
    except notes.NoteError as error:
        raise ClientError(f"{folder}: {error}") from None
    if folder.is_dir() and not found.leaf_hashes and found.checkpoints[-1].size:
        complain(
            "the leaf hashes beside the checkpoint are not of it: events are named less exactly"
        )
    return found


def _verified(url: str, key: Ed25519PublicKey, published: Published) -> Finding:
    import psycopg
    import sqlalchemy

    from audit.verify import verify
    from cli.errors import ClientError
    from runtime.config import ConfigError
    from runtime.database import Database

    try:
        engine = Database(url, connections=1).engine
        # One state of the log, however it grows meanwhile.
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with engine.connect().execution_options(**options) as connection:
            return verify(connection, key, published)
    except ConfigError:
        raise ClientError(
            "--database-url is not a database URL (postgresql://user:password@host/name)"
        ) from None
    except (sqlalchemy.exc.OperationalError, psycopg.OperationalError):
        raise ClientError("the database does not answer, or refuses the login") from None
    except psycopg.Error as error:
        raise ClientError(
            f"the audit log's tables cannot be read (SQLSTATE {error.sqlstate}): they are of "
            "another version (winnow migrate), or were altered"
        ) from None


def _say(found: Finding) -> None:
    from cli.terminal import counted, escape

    if found.fault is None:
        print(f"{counted(found.size, 'event')}, all as they were signed; root {found.root.hex()}")
        print(f"published: a checkpoint of the first {found.published}")
        return
    print(f"ALTERED: {escape(_named(found.fault))}")


def _named(fault: Fault) -> str:
    """A fault in one line."""
    if fault.sequence is None:
        return fault.what
    if fault.last is not None and fault.last != fault.sequence:
        return f"events {fault.sequence} to {fault.last}: {fault.what}"
    now = f" ({fault.event_id})" if fault.event_id else ""
    return f"event {fault.sequence}{now}: {fault.what}"


def _as_json(found: Finding) -> Json:
    fault = found.fault
    return {
        "events": found.size,
        "root_hash": found.root.hex(),
        "published": found.published,
        "altered": None
        if fault is None
        else {
            "sequence": fault.sequence,
            "last": fault.sequence if fault.last is None else fault.last,
            "event_id": fault.event_id,
            "what": fault.what,
        },
    }


def _served_key(answer: Json) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(answer["public_key"]))


def _leaf(answer: Json) -> bytes:
    """The bytes that were hashed, from the event as the server shows it."""
    from audit import log
    from cli.errors import ClientError

    members = {
        **answer["event"],
        "severity": answer["event"]["severity"] or "unspecified",
        "recorded_at": answer["recorded_at"],
    }
    for leaf in (log.canonical(members), log.canonical(log.without_recording(members))):
        if log.leaf_hash(leaf).hex() == answer["leaf_hash"]:
            return leaf
    raise ClientError("the server's event is not the one that its leaf hash is of")


def register(app: typer.Typer) -> None:
    """Adds this group to the `winnow` command."""
    app.add_typer(audit_app)
