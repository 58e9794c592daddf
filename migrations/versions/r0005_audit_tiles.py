"""The audit log's tree hashes in tiles, filled for the events that are there."""

import hashlib

from alembic import op
from sqlalchemy import Connection, text

revision = "0005"
down_revision = "0004"

_UP = """
CREATE TABLE audit.tiles (
    level smallint NOT NULL,
    index bigint NOT NULL,
    hashes bytea NOT NULL,
    PRIMARY KEY (level, index)
);
-- Hashes do not compress.
ALTER TABLE audit.tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

INSERT INTO audit.tiles (level, index, hashes)
    SELECT 0, sequence / 256, string_agg(leaf_hash, '' ORDER BY sequence)
    FROM audit.events GROUP BY sequence / 256 HAVING count(*) = 256;
"""

_TILES = text("SELECT hashes FROM audit.tiles WHERE level = :level ORDER BY index")
_INSERT = text("INSERT INTO audit.tiles (level, index, hashes) VALUES (:level, :index, :hashes)")

_HASH, _TILE = 32, 256 * 32


def upgrade() -> None:
    op.execute(_UP)
    connection = op.get_bind()
    level = 0
    while above := _hashes_of_full_tiles(connection, level):
        level += 1
        rows = [
            {"level": level, "index": at // _TILE, "hashes": above[at : at + _TILE]}
            for at in range(0, len(above), _TILE)
        ]
        connection.execute(_INSERT, rows)


def _hashes_of_full_tiles(connection: Connection, level: int) -> bytes:
    # Streamed: of a large log all of them would not fit.
    found = connection.execute(_TILES, {"level": level}, execution_options={"yield_per": 256})
    return b"".join(_root(bytes(tile)) for (tile,) in found if len(tile) == _TILE)


def _root(tile: bytes) -> bytes:
    """RFC 6962 section 2.1 over the hashes of a full tile."""
    hashes = [tile[at : at + _HASH] for at in range(0, len(tile), _HASH)]
    while len(hashes) > 1:
        hashes = [
            hashlib.sha256(b"\x01" + left + right).digest()
            for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]


def downgrade() -> None:
    op.execute("DROP TABLE audit.tiles;")
