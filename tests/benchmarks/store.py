"""Results of the benchmarks: one JSON file in docs/, from which the report and the README take their numbers."""

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fmlib.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks.json"


def load(path: Path = RESULTS) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def store(name: str, rows: dict, path: Path = RESULTS) -> None:
    """Keep the rows of one benchmark, with what they were measured on; the others stay as they are."""
    results = load(path)
    results[name] = {"rows": rows, "measured with": machine()}
    write_atomically((json.dumps(results, indent=1, sort_keys=True) + "\n").encode(), path)


def machine() -> str:
    packages = []
    for package in ("torch", "flow_matching", "torchcfm", "torchdiffeq"):
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            packages.append(f"no {package}")
    return f"{os.cpu_count()} cores, no GPU, Python {platform.python_version()}, {', '.join(packages)}"
