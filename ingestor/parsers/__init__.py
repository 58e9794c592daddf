"""The registry: one module for each scanner, each ending in `PARSER`."""

from __future__ import annotations

import importlib
import pkgutil

from ingestor.parsers._base import Parser


def _load() -> dict[str, Parser]:
    parsers: dict[str, Parser] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        found = getattr(importlib.import_module(f"{__name__}.{module.name}"), "PARSER", None)
        if not isinstance(found, Parser):
            raise RuntimeError(f"ingestor/parsers/{module.name}.py does not define PARSER")
        if found.id in parsers:
            raise RuntimeError(f"two parsers call themselves {found.id}")
        parsers[found.id] = found
    return dict(sorted(parsers.items()))


PARSERS = _load()
