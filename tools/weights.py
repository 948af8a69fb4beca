"""Train the networks whose weights are stored, by running the lessons that call `trained`.

python tools/weights.py [--check] [NAME ...]     NAME: the beginning of a lesson's file name, such as 04; all if none

What was trained is written to fmlib/stored/; after a run of all lessons what none of them wrote is removed. With
--check nothing is written: an error says which weights end further from the stored ones than rounding explains.
"""

import argparse
import ast
import sys
import time
from pathlib import Path

from render import NOTEBOOKS, execute, read_text

from fmlib.weights import FOLDER


def trains(code: str) -> bool:
    """Whether this code calls `trained`."""
    calls = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    return any(ast.unparse(call.func) == "trained" for call in calls)


def lessons(names: list[str]) -> list[Path]:
    """The texts of the lessons that call `trained`, of those whose names begin so."""
    texts = [t for t in sorted((NOTEBOOKS / "src").glob("*.py")) if t.name.startswith(tuple(names or [""]))]
    return [t for t in texts if any(trains(c.source) for c in read_text(t).cells if c.cell_type == "code")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="compare with what is stored, write nothing")
    options = parser.parse_args()
    before = time.time() - 2  # a file system may round its clock
    for text in lessons(options.names):
        execute(read_text(text), timeout=1200, train="check" if options.check else "write")
        print(f"{text.stem}: {'checked' if options.check else 'written'}", flush=True)
    if not options.names and not options.check:
        for file in FOLDER.glob("*.safetensors"):
            if file.stat().st_mtime < before:
                file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
