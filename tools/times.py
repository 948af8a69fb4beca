"""How long a lesson takes: computed from its text and the stored run times, never typed.

python tools/times.py             say what the lessons' heads and the README's table should say, and whether they do
python tools/times.py --write     write it there (then: make render)

Reading: words / 200 + visible lines of code / 20 minutes, 3 s a formula in a line, 30 s one of its own, a minute a
prediction, 20 s a caption of a tour. Apart from that, 5 minutes an exercise and 75 s an interview card. Running:
docs/benchmarks.json.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]
HEAD = re.compile(r"\*Time:\* \d[^.]* to read,[^.]*\.")  # of a lesson that is read from beginning to end
RUNS = re.compile(r"It runs in [^.]*\.")  # of the two that are not


@dataclass
class Times:
    """Of one lesson: seconds to read, of which nothing is spent on what is counted beside it; seconds to run."""

    read: float
    run: float
    exercises: int
    cards: int

    @property
    def read_minutes(self) -> int:
        return max(5, 5 * round(self.read / 300))

    @property
    def practice_minutes(self) -> int:
        return max(5, 5 * round((300 * self.exercises + 75 * self.cards) / 300))

    @property
    def run_seconds(self) -> int:
        return round(self.run) if self.run < 10 else 5 * round(self.run / 5)

    def run_words(self) -> str:
        words = {1: "a second", 60: "about a minute"}
        seconds = f"{self.run_seconds} seconds"
        return words.get(self.run_seconds, seconds if self.run_seconds < 10 else f"about {seconds}")

    def head(self) -> str:
        counted = [(self.exercises, "exercise"), (self.cards, "card")]
        parts = [f"{n} {what}{'s' if n > 1 else ''}" for n, what in counted if n]
        more = f"; {self.practice_minutes} more for {' and '.join(parts)}" if parts else ""
        return f"*Time:* {self.read_minutes} minutes to read, {self.run_words()} to run{more}."


def measure(notebook, run: float) -> Times:
    """Times of a lesson, from its cells and its measured run time in seconds."""
    seconds, exercises, cards = 0.0, 0, 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"<details>.*?</details>", " ", cell.source, flags=re.DOTALL)  # folded
            text, displays = re.subn(r"\$\$.+?\$\$", " ", text, flags=re.DOTALL)
            text, inline = re.subn(r"(?<!\\)\$[^$\n]+\$", " formula ", text)
            text = re.sub(r"\]\([^)]*\)", "]", text)  # where a link leads
            words = sum(bool(re.search(r"\w", word)) for word in text.split())
            seconds += words * 60 / 200 + 3 * inline + 30 * displays + 60 * text.count("Predict, then run")
        elif cell.cell_type == "code":
            predictions = len(re.findall(r"^predict\(", cell.source, re.MULTILINE))
            seconds += 60 * predictions + 20 * cell.source.count('"caption":')
            exercises += len(re.findall(r"^check\(\"", cell.source, re.MULTILINE))
            for call in re.findall(r"\binterview_cards\((.*?)\)", cell.source, re.DOTALL):
                cards += len(re.findall(r'"[\w-]+"', call))
            if "hide-input" not in cell.metadata.get("tags", []):
                lines = [line for line in cell.source.splitlines() if line.strip()]
                seconds += len(lines) * 60 / 20
    return Times(seconds, run, exercises, cards)


def with_times(text: str, times: Times) -> str:
    """The source of a lesson with its times in its head. Raises ValueError if it has no place for them."""
    text, heads = HEAD.subn(lambda _: times.head(), text)
    if not heads:
        text, heads = RUNS.subn(f"It runs in {times.run_words()}.", text)
    if heads != 1:
        raise ValueError(f"a lesson's head must say its time once, as in {times.head()!r}; found {heads} places")
    return text


def in_table(readme: str, name: str, times: Times) -> str:
    """The README with a lesson's times in its row of the table; "daily" and "–" stay. ValueError without a row."""
    row = re.compile(rf"^(\| \[.*\]\(notebooks/{name}\.ipynb\) \|.*\| )([^|]+)( \| )[^|]+( \|)$", re.MULTILINE)

    def fill(match) -> str:
        read = f"{times.read_minutes} min" if match[2].endswith("min") else match[2]
        return f"{match[1]}{read}{match[3]}{times.run_seconds} s{match[4]}"

    readme, found = row.subn(fill, readme)
    if found != 1:
        raise ValueError(f"README.md must have one table row for the lesson {name}, found {found}")
    return readme


def wanted(root: Path) -> dict[Path, str]:
    """The files of a checkout that speak of times, and what should be in them."""
    runs = json.loads((root / "docs" / "benchmarks.json").read_text("utf-8"))["lessons"]["rows"]
    readme = (root / "README.md").read_text("utf-8")
    files = {}
    for path in sorted((root / "notebooks" / "src").glob("*.py")):
        if path.stem not in runs:
            raise ValueError(f"docs/benchmarks.json has no run time of {path.stem}: python tests/benchmarks/lessons.py")
        text = path.read_text("utf-8")
        times = measure(jupytext.reads(text, "py:percent"), runs[path.stem])
        files[path] = with_times(text, times)
        readme = in_table(readme, path.stem, times)
    return {**files, root / "README.md": readme}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the times into notebooks/src and README.md")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the checkout (default: this one)")
    options = parser.parse_args(arguments)
    stale = {path: text for path, text in wanted(options.root).items() if path.read_text("utf-8") != text}
    for path, text in stale.items():
        before = path.read_text("utf-8").splitlines()
        for old, new in zip(before, text.splitlines(), strict=True):
            if old != new:
                print(f"{path.name}\n  - {old[:160]}\n  + {new[:160]}")
        if options.write:
            path.write_text(text, encoding="utf-8")
    print(f"{len(stale)} of the files {'were changed' if options.write else 'say another time'}.")
    return bool(stale) and not options.write


if __name__ == "__main__":
    sys.exit(main())
