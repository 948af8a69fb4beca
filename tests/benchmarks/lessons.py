"""Wall time of every lesson, each executed once from a fresh kernel, its imports included.

python tests/benchmarks/lessons.py [NAME ...]
"""

import sys
import time

from store import ROOT, load, store
from tqdm import tqdm

sys.path.insert(0, str(ROOT / "tools"))
from render import NOTEBOOKS, execute, read_text


def main(names: list[str]) -> None:
    rows = load().get("lessons", {}).get("rows", {})
    for text in tqdm(sorted((NOTEBOOKS / "src").glob("*.py"))):
        if text.name.startswith(tuple(names or [""])):
            start = time.perf_counter()
            execute(read_text(text))
            rows[text.stem] = time.perf_counter() - start
    store("lessons", rows)
    print(table(rows))


def table(rows: dict) -> str:
    lines = ["| lesson | seconds |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {seconds:.0f} |" for name, seconds in sorted(rows.items())])


if __name__ == "__main__":
    main(sys.argv[1:])
