"""Run the lessons with other seeds, and say how near each assertion comes to its limit.

python tools/seeds.py [--seeds 20] [--jobs 1] [--out docs/seeds.json] [NAME ...]

NAME is the beginning of a lesson's file name, such as 04; all if none. Every call of torch.manual_seed is moved by
1000, 2000, ... Each comparison in an assertion is recorded: its nearness is the factor between its two sides, and 1.0
would be the limit itself. What was run is kept in the file; a second run adds what is missing or has changed.
"""

import argparse
import ast
import hashlib
import json
import math
import operator
import os
import re
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell
from render import NOTEBOOKS, execute, read_text
from tqdm import tqdm

import fmlib

ROOT = NOTEBOOKS.parent
OUT, PAGE = ROOT / "docs" / "seeds.json", ROOT / "docs" / "seeds.md"
PRELUDE = """
import sys as _sys
_sys.path.insert(0, {tools!r})
import seeds as _seeds
_seeds.watch(get_ipython(), {offset}, {file!r})
"""


HEAD = """# Other seeds

Written by `make seeds`; do not edit. Each lesson was executed with its seeds moved by 1000, 2000, and so on. For the
assertion that comes nearest to its limit in any of these runs, the factor between its two sides: 1 is the limit."""
# rooms without numbers of their own
WORDS = ("fmlib.page", "fmlib.study", "fmlib.jupyter", "fmlib.files", "fmlib.progress", "fmlib.weights")
NAMES = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}


class Watch(ast.NodeTransformer):
    """Replace each comparison a < b < c in an assertion by a call that records its sides, and gives the same answer."""

    def visit_Assert(self, node):
        source = ast.unparse(node.test)
        node.test = Sides(source).visit(node.test)
        return ast.fix_missing_locations(node)


class Sides(ast.NodeTransformer):
    def __init__(self, source: str):
        self.source = source

    def visit_Compare(self, node):
        if not all(type(op) in NAMES for op in node.ops):
            return self.generic_visit(node)
        ops = ast.Constant(" ".join(NAMES[type(op)] for op in node.ops))
        # functions, so that a chain stops at its first false link, as Python's does
        sides = [
            ast.Lambda(ast.arguments([], [], None, [], [], None, []), self.visit(side))
            for side in (node.left, *node.comparators)
        ]
        name = ast.Name("_compared", ast.Load())
        return ast.Call(name, [ast.Constant(self.source), ops, ast.List(sides, ast.Load())], [])


def watch(shell, offset: int, file: str) -> None:
    """In a lesson's kernel: shift the seeds, and append every comparison to `file`."""
    import torch

    seed = torch.manual_seed
    torch.manual_seed = lambda s: seed(s + offset)

    def compared(source: str, ops: str, sides: list) -> bool:
        left = sides[0]()
        for op, side in zip(ops.split(), sides[1:], strict=True):
            right = side()
            with open(file, "a") as out:
                out.write(json.dumps([source, *map(number, (left, right))]) + "\n")
            if not getattr(operator, op)(left, right):
                return False
            left = right
        return True

    def claimed(claim: str, reads: float, limit: float) -> None:
        with open(file, "a") as out:
            out.write(json.dumps([claim, number(reads), number(limit)]) + "\n")

    from fmlib.page.proof import watchers

    watchers.append(claimed)
    shell.user_ns["_compared"] = compared
    shell.ast_transformers.append(Watch())


def number(value) -> float | None:
    try:
        value = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return value if math.isfinite(value) else None


def factor(left: float | None, right: float | None) -> float | None:
    """How far apart two positive numbers are; None where the question has no answer."""
    if left is None or right is None or left == right or not (left > 0 and right > 0):
        return None
    return max(left / right, right / left)


def run(text: Path, offset: int) -> dict:
    """{"error": words or None, "nearest": {assertion: [factor, left, right]}} of one lesson with one seed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "compared"
        file.touch()
        notebook = read_text(text)
        prelude = PRELUDE.format(tools=str(ROOT / "tools"), offset=offset, file=str(file))
        notebook.cells.insert(0, new_code_cell(prelude))
        error = None
        try:
            execute(notebook, timeout=600, train="1")  # stored weights know nothing of other seeds
        except CellExecutionError as e:
            error = f"{e.ename}: {e.evalue}\n{e.traceback[-1500:]}"
        nearest = {}
        for line in file.read_text().splitlines():
            source, left, right = json.loads(line)
            f = factor(left, right)
            if f is not None and (source not in nearest or f < nearest[source][0]):
                nearest[source] = [f, left, right]
    return {"error": error, "nearest": nearest}


def rooms_of(code: str) -> set[str]:
    """The rooms whose names stand in this code, such as "engine.loop", and the rooms that they import in turn."""
    used, todo, found = set(), [], set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            todo.append(str(node.module))
    todo += [str(getattr(getattr(fmlib, name, None), "__module__", None)) for name in used]
    while todo:
        room = todo.pop()
        if room.startswith("fmlib.") and not room.startswith(WORDS) and room not in found and file_of(room).exists():
            found.add(room)
            tree = ast.parse(file_of(room).read_text("utf-8"))
            todo += [str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    return {room.removeprefix("fmlib.") for room in found}


def file_of(room: str) -> Path:
    """The file of a module such as fmlib.engine.loop, or of a wing, fmlib.engine."""
    folder = ROOT.joinpath(*room.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def code_hash(text: Path) -> str:
    """Of the lesson's code and of the rooms that its numbers depend on."""
    code = "\n".join(c.source for c in read_text(text).cells if c.cell_type == "code")
    rooms = [file_of(f"fmlib.{room}").read_text("utf-8") for room in sorted(rooms_of(code))]
    return hashlib.sha256("\n".join([code, *rooms]).encode()).hexdigest()[:16]


def rows_of(results: dict) -> dict[str, str]:
    """For each lesson its row: the seeds that pass, and its assertion that comes nearest to its limit."""
    rows = {}
    for name, lesson in results.items():
        runs = lesson["runs"].values()
        good = sum(r["error"] is None for r in runs)
        worst = min(((*v, s) for r in runs for s, v in r["nearest"].items()), default=None)
        tail = f"`{worst[3]}` | {worst[0]:.2f}" if worst else "– | –"
        rows[name] = f"| {name} | {f'{good} of {len(runs)}' if runs else 'not run'} | {tail} |"
    return rows


def table(results: dict, page: str = "") -> str:
    """Markdown, one row a lesson; those of `page` that were not run here stay, if their lessons still exist."""
    stored = {m[1]: m[0] for m in re.finditer(r"^\| (\w+) \|.*\|$", page, re.MULTILINE)}
    rows = {n: r for n, r in stored.items() if (NOTEBOOKS / "src" / f"{n}.py").exists()} | rows_of(results)
    lines = ["| lesson | seeds that pass | nearest assertion | factor |", "|---|---|---|---|"]
    return "\n".join([*lines, *(row for _, row in sorted(rows.items()))])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="lessons at once; each needs one core, lesson 10 two")
    parser.add_argument("--out", type=Path, default=OUT, help="another file than docs/seeds.json leaves the page alone")
    options = parser.parse_args()
    texts = sorted((NOTEBOOKS / "src").glob("*.py"))
    texts = [t for t in texts if t.name.startswith(tuple(options.names or [""]))]
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    todo = []
    for text in texts:
        if results.get(text.stem, {}).get("code") != code_hash(text):
            results[text.stem] = {"code": code_hash(text), "runs": {}}
        done = results[text.stem]["runs"]
        todo += [(text, 1000 * i) for i in range(1, options.seeds + 1) if str(1000 * i) not in done]
    with ProcessPoolExecutor(options.jobs) as pool:
        futures = [(text, offset, pool.submit(run, text, offset)) for text, offset in todo]
        for text, offset, future in tqdm(futures):
            results[text.stem]["runs"][str(offset)] = future.result()
            temp = options.out.with_name(options.out.name + ".tmp")
            temp.write_text(json.dumps(results, indent=1))
            os.replace(temp, options.out)
    if options.out.resolve() == OUT:
        page = PAGE.read_text("utf-8") if PAGE.exists() else ""
        PAGE.write_text(f"{HEAD}\n\n{table(results, page)}\n", encoding="utf-8")
    print(table(results))
    failed = [(n, o, r["error"]) for n, lesson in results.items() for o, r in lesson["runs"].items() if r["error"]]
    for name, offset, error in failed:
        print(f"\n{name}, seeds moved by {offset}: {error}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
