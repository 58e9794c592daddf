"""Fetches the pinned packages and unpacks the files that a scanner may report something in."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PACKAGES = Path(__file__).with_name("packages.txt")
_TIMEOUT_S = 600
_LARGEST_BYTES = 200_000
_FILES_A_SOURCE = 200
_BYTES_A_SOURCE = 3_000_000
# Of a file, the scanners see some telling lines with those around them, and private keys whole.
_LINES_A_FILE = 14
_AROUND = 2
_PEM_LINES = 60

_SKIPPED = re.compile(
    r"\.(?:png|jpe?g|gif|ico|svg|woff2?|ttf|eot|so|pyd|dll|exe|gz|zip|jar|class|mo|pyc|npy|npz|"
    r"bin|dat|parquet|fits|h5|wasm|pdf|mp[34]|wav|ogg|a|o|lib|hpp|cuh|typed|pyi)$"
    r"|dist-info/RECORD$|(?:^|/)(?:FILES|MANIFEST)\.json$",
    re.IGNORECASE,
)
# Lines that a rule of a scanner may match: a telling name with a value, long random text.
_PROMISING = re.compile(
    rb"""(?:passw|passwd|pwd|secret|token|api.?key|[._-]key|credential|auth|nonce|salt)
    [\w.\-\]]{0,24}['"]?[ ]*(?:=>|:=|[:=(,])[ ]*['"]?[^\s'"(){}\[\],;]{4}
    |-----BEGIN[ ][A-Z ]*PRIVATE|://[^/\s:'"]{1,60}:[^/\s@'"]{1,60}@
    |['"=:\s][A-Za-z0-9+/_-]{32,}['"\s=]
    |['"][A-Za-z0-9+/=_-]{20,}['"]|['"][0-9a-fA-F]{8,}['"]""",
    re.IGNORECASE | re.VERBOSE,
)
# Configuration, documents, tests: where people write credentials and what looks like them.
TELLING = re.compile(
    r"(?:^|/)(?:\.env|dockerfile|docker-compose|settings|config|values|conftest|readme)"
    r"|\.(?:env|example|sample|ya?ml|toml|ini|cfg|conf|json|properties|tf|tfvars|j2|tpl|sh|md|rst|"
    r"pem|key|crt|sql|xml|ipynb|lock|php|rb|go|java|kt|cs|tsx?|gradle|plist)$|test|example|docs?/",
    re.IGNORECASE,
)
# Ansible ships its collections, which are projects of their own, in one wheel.
_COLLECTION = re.compile(r"^ansible_collections/([^/]+)/([^/]+)/")


class Package(NamedTuple):
    """One pinned package. `registry` is `pypi`, `pypi-sdist`, `npm` or `debian`."""

    registry: str
    name: str
    version: str

    @property
    def command(self) -> list[str]:
        """What the registry's own client is told, in the folder that the archive goes to."""
        match self.registry:
            case "npm":
                return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
            case "debian":
                return ["apt-get", "download", f"{self.name}={self.version}"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        source = ["--no-binary", ":all:"] if self.registry == "pypi-sdist" else []
        return [*pip, *source, f"{self.name}=={self.version}"]

    @property
    def pattern(self) -> re.Pattern[str]:
        """The names under which the registry serves this archive."""
        name, version = re.escape(self.name), re.escape(self.version)
        match self.registry:
            case "npm":
                flat = re.escape(self.name.removeprefix("@").replace("/", "-"))
                return re.compile(rf"{flat}-{version}\.tgz")
            case "debian":
                epoch = re.escape(self.version.replace(":", "%3a"))
                return re.compile(rf"{name}_{epoch}_\w+\.deb")
        loose = re.sub(r"(?:\\?[-_.])+", "[-_.]+", name)
        return re.compile(rf"{loose}-{version}(?:-.+\.whl|\.tar\.gz)", re.IGNORECASE)


def packages(text: str) -> list[Package]:
    """The pins of a list, one `registry name version` a line; `#` starts a remark."""
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    pins = []
    for parts in filter(None, lines):
        if len(parts) != 3:
            raise SystemExit("packages.txt: a line is not `registry name version`")
        pins.append(Package(*parts))
    return pins


def archive(package: Package, folder: Path) -> Path:
    """The package's archive in `folder`, fetched where it is not there yet."""

    def found() -> Path | None:
        names = (path for path in folder.iterdir() if package.pattern.fullmatch(path.name))
        return next(names, None)

    if (path := found()) is None:
        subprocess.run(package.command, cwd=folder, timeout=_TIMEOUT_S, check=True)
        path = found()
    if path is None:
        raise SystemExit(f"{package.name} {package.version}: the client brought no archive")
    return path


def _zip_members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            yield info.filename, info.file_size, partial(file.read, info)


def _tar_members(
    path: Path, stream: io.BytesIO | None = None
) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with tarfile.open(path if stream is None else None, fileobj=stream) as file:
        for member in file:
            body = file.extractfile(member) if member.isfile() else None
            if body is not None:
                yield member.name, member.size, body.read


def _members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Name, size and reader of every file in an archive; read before going on."""
    if path.suffix == ".whl":
        yield from _zip_members(path)
    elif path.suffix == ".deb":
        unpacked = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(path)], capture_output=True, check=True
        )
        yield from _tar_members(path, io.BytesIO(unpacked.stdout))
    else:
        yield from _tar_members(path)


def place(package: Package, name: str) -> tuple[str, str] | None:
    """The source and the path inside it that an archive's member belongs to."""
    parts = PurePosixPath(name).parts
    if package.registry == "debian":
        # ./usr/share/NAME/... or ./usr/lib/NAME/...
        parts = parts[3:]
    elif package.registry in ("npm", "pypi-sdist"):
        parts = parts[1:]
    if not parts or ".." in parts or parts[0] == "/":
        return None
    path = "/".join(parts)
    source = package.name.removeprefix("@").replace("/", "-").lower()
    if match := _COLLECTION.match(path):
        return f"{match[1]}.{match[2]}", path[match.end() :]
    return source, path


def promising(body: bytes) -> bool:
    """Whether the file is text in which a scanner may report something."""
    return b"\0" not in body[:4096] and _PROMISING.search(body) is not None


def excerpt(lines: list[str], seed: str) -> list[int]:
    """The numbers, from 1 and rising, of the lines that the scanners are given of a file."""
    telling = [at for at, line in enumerate(lines) if _PROMISING.search(line.encode())]
    chance = random.Random(seed)
    chosen = chance.sample(telling, min(len(telling), _LINES_A_FILE))
    kept: set[int] = set()
    for at in chosen:
        after = _PEM_LINES if "-----BEGIN" in lines[at] else _AROUND
        kept.update(range(max(0, at - _AROUND), min(len(lines), at + after + 1)))
    return [at + 1 for at in sorted(kept)]


def sample(sizes: dict[str, int], seed: str) -> list[str]:
    """Some of the paths, within the limits for one source.

    Telling ones come first, and every folder and ending has its turn.
    """
    chance = random.Random(seed)
    groups: dict[tuple[bool, str, str], list[str]] = defaultdict(list)
    for path in sorted(sizes):
        pure = PurePosixPath(path)
        groups[not TELLING.search(path), pure.suffix, "/".join(pure.parts[:-1][:3])].append(path)
    ranked = []
    for (plain, *_), members in groups.items():
        chance.shuffle(members)
        ranked += [(turn + 2 * plain, chance.random(), path) for turn, path in enumerate(members)]
    chosen: list[str] = []
    room = _BYTES_A_SOURCE
    for *_, path in sorted(ranked):
        if sizes[path] <= room and len(chosen) < _FILES_A_SOURCE:
            chosen.append(path)
            room -= sizes[path]
    return chosen


def unpack(package: Package, path: Path, tree: Path) -> None:
    """Writes a sample of the archive's promising files to `tree/SOURCE/PATH`."""
    bodies: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, size, read in _members(path):
        if size > _LARGEST_BYTES or not size or _SKIPPED.search(name):
            continue
        placed = place(package, name)
        if placed is not None and promising(body := read()):
            bodies[placed[0]][placed[1]] = body
    for source, files in bodies.items():
        for chosen in sample({inside: len(body) for inside, body in files.items()}, source):
            target = tree / source / chosen
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(files[chosen])
            except OSError:
                # A name that this file system does not take, or a file where a folder is.
                continue
