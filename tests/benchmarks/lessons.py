"""Wall time of every lesson, each executed once from a fresh kernel, its imports included; and of make test.

python tests/benchmarks/lessons.py [NAME ...]     with names, these lessons only; "test" is make test
"""

import subprocess
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
    if not names or "test" in names:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=ROOT, capture_output=True, text=True)
        result = done.stdout.strip().splitlines()[-1]
        if done.returncode:
            sys.exit(f"make test failed, its time is not kept: {result}")
        store("make test", {"seconds": time.perf_counter() - start, "result": result})
        print(result)


def table(rows: dict) -> str:
    lines = ["| lesson | seconds |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {seconds:.0f} |" for name, seconds in sorted(rows.items())])


if __name__ == "__main__":
    main(sys.argv[1:])
