"""Package URLs (purl specification) for reports that name a package and not its purl."""

from __future__ import annotations

from urllib.parse import quote

_TYPES = {
    "npm": "npm",
    "yarn": "npm",
    "pnpm": "npm",
    "node-pkg": "npm",
    "javascript": "npm",
    "pypi": "pypi",
    "pip": "pypi",
    "pipenv": "pypi",
    "poetry": "pypi",
    "python-pkg": "pypi",
    "gem": "gem",
    "bundler": "gem",
    "gemspec": "gem",
    "gomod": "golang",
    "gobinary": "golang",
    "go": "golang",
    "cargo": "cargo",
    "maven": "maven",
    "jar": "maven",
    "pom": "maven",
    "gradle": "maven",
    "composer": "composer",
    "nuget": "nuget",
    "dotnet-core": "nuget",
    "pub": "pub",
    "mix": "hex",
    "hex": "hex",
    "conan": "conan",
    "cocoapods": "cocoapods",
}
# Groups stand before the name, parted by these.
_PARTED = {"maven": ":", "golang": "/", "npm": "/", "composer": "/"}
# System packages belong to a distribution.
_SYSTEM = {
    "alpine": "apk/alpine",
    "debian": "deb/debian",
    "ubuntu": "deb/ubuntu",
    "redhat": "rpm/redhat",
    "centos": "rpm/centos",
    "rocky": "rpm/rocky",
    "alma": "rpm/alma",
    "fedora": "rpm/fedora",
    "amazon": "rpm/amazon",
    "oracle": "rpm/oracle",
    "photon": "rpm/photon",
}


def purl(ecosystem: str | None, name: str, version: str) -> str:
    """The package URL; empty for an ecosystem that is not known.

    Args:
        ecosystem: as scanners call it, or a distribution's name.
        name: with its group, e.g. "org.example:library" or "@scope/name".
        version: as installed; may be empty.
    """
    kind = (ecosystem or "").lower()
    prefix = _TYPES.get(kind) or _SYSTEM.get(kind)
    if not prefix or not name:
        return ""
    parts = name.split(_PARTED[prefix]) if prefix in _PARTED else [name]
    path = "/".join(quote(part, safe=".-_~") for part in parts if part)
    if prefix == "pypi":
        path = path.lower().replace("_", "-")
    return f"pkg:{prefix}/{path}" + (f"@{quote(version, safe='.-_~:')}" if version else "")
