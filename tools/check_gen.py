"""Proves that gen/ is what `buf generate` makes of protos/, or makes it so.

Usage: check_gen.py [--write]
"""

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GEN = ROOT / "gen"


def generate(target: Path) -> None:
    """Runs buf with the local plugins of the virtual environment; no network."""
    bin_dir = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(
        [bin_dir / "buf", "generate", "-o", target], cwd=ROOT, check=True, env=environment
    )
    # The stub generator also writes empty stubs for files without services.
    for stub in target.rglob("*_pb2_grpc.pyi"):
        if not stub.with_suffix(".py").exists():
            stub.unlink()


def files(folder: Path) -> set[Path]:
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".py", ".pyi")
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder, "gen")
        if "--write" in sys.argv[1:]:
            shutil.rmtree(GEN, ignore_errors=True)
            shutil.copytree(fresh, GEN)
            return 0
        stale = files(fresh) ^ files(GEN)
        for path in files(fresh) & files(GEN):
            if not filecmp.cmp(fresh / path, GEN / path, shallow=False):
                stale.add(path)
    for path in sorted(stale):
        print(f"gen/{path} is not what the contracts make; run: make gen", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
