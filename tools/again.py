"""Execute the lessons again, last one first, and compare what they show with what is stored.

python tools/again.py [NAME ...]     NAME: the beginning of a lesson's file name, such as 04; all if none

Same machine and same packages: every printed line, table and picture must be the same, but for times on a clock. On
another processor the last digits may differ.
"""

import hashlib
import re
import sys
from itertools import zip_longest

import nbformat
from render import NOTEBOOKS, clean, execute, read_text

# A number with a unit of time, and lines about speed: they differ from run to run.
CLOCK = re.compile(r" *[\d.,]+ ?(?:ms|s|seconds)\b|.*(?:time of a step|steps a second).*")


def shown(cell) -> list[str]:
    """Every line that a cell prints, and a hash of each of its pictures."""
    lines = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        lines += output.get("text", data.get("text/markdown", data.get("text/plain", ""))).splitlines()
        if "image/png" in data:
            lines.append("picture " + hashlib.sha256(data["image/png"].strip().encode()).hexdigest()[:16])
    return lines


def differences(stored, executed) -> list[str]:
    """One entry for each line that differs by more than the clock: its cell, as stored, as it is now."""
    found = []
    for number, (a, b) in enumerate(zip(stored.cells, executed.cells, strict=True)):
        for old, new in zip_longest(shown(a), shown(b)):
            if CLOCK.sub("#", str(old)) != CLOCK.sub("#", str(new)):
                found.append(f"cell {number}: {old!r} | {new!r}")
    return found


def main(names: list[str]) -> int:
    failed = False
    for text in sorted((NOTEBOOKS / "src").glob("*.py"), reverse=True):
        if text.name.startswith(tuple(names or [""])):
            stored = nbformat.read(NOTEBOOKS / f"{text.stem}.ipynb", as_version=4)
            again = read_text(text)
            execute(again)
            clean(again)
            found = differences(stored, again)
            lines = sum(len(shown(cell)) for cell in stored.cells)
            print(f"{text.stem}: {lines} lines and pictures, {len(found)} differ", *found, sep="\n  ", flush=True)
            failed |= bool(found)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
