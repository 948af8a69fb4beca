"""Write docs/benchmarks.md and its picture from the stored results, docs/benchmarks.json.

python tests/benchmarks/report.py
"""

import re

import c2ot
import lessons
import quality
import training
from store import RESULTS, ROOT, load

from fmlib.page import plots

DOCS = ROOT / "docs"
NAMES = {
    "fmlib_default": "fmlib, default recipe",
    "fmlib_small": "fmlib, width 64, batch 256, 1,000 steps",
    "fmlib_default, as long as the cap": "fmlib, as long as the cap",
    "quick_reference": "the interview sheet's recipe",
    "torchcfm_tutorial": "torchcfm's tutorial recipe",
    "flow_matching_notebook": "flow_matching's notebook recipe",
}


def seeds(part: dict) -> int:
    return min(len(runs) for row in part["rows"].values() for runs in row["recipes"].values())


def text(results: dict) -> str:
    parts = [
        "# Benchmarks",
        "Written by `make bench` from `docs/benchmarks.json`; do not edit. Times are seconds of one processor thread.",
    ]
    if "time to quality" in results:
        part = results["time to quality"]
        parts += [
            "## Time to quality",
            "Five recipes on two data sets, each with its own library, network, batch and schedule. The goal: sliced "
            "W2 of 10,000 samples within three sampling floors. *First*: two checks in a row are. *For good*: all "
            "later ones are too. A model at a constant rate jitters, so the first time can be luck. Not reached: not "
            "before the recipe ends, or the cap. *Off the support*: the share of the last samples where the density is "
            "lower than at all but 1 % of real data; fresh data read 1, and a distance near its floor can hide more. "
            f"The middle of {seeds(part)} seeds, and the range.",
            "![Distance to the data, in sampling floors, over seconds of training, one line for each run; the dashed "
            "line is the goal.](time_to_quality.png)",
        ]
        for data, row in part["rows"].items():
            named = {words: row["recipes"][name] for name, words in NAMES.items() if name in row["recipes"]}
            parts += [f"### {data}: floor {row['floor']:.4f}, cap {row['cap']:g} s", quality.table(named)]
        parts += [f"Measured with {part['measured with']}."]
    if "training steps" in results:
        part = results["training steps"]
        parts += [
            "## Training steps a second",
            f"The same network (hidden 128), batch ({training.BATCH}) and optimiser, each library's path and loss.",
            training.table(part["rows"]),
            f"Measured with {part['measured with']}.",
        ]
    if "sampling" in results:
        part = results["sampling"]
        lines = ["| sampler | ms | beyond its model calls |", "|---|---|---|"]
        lines += [f"| {n} | {r['ms']:.1f} | {100 * r['beyond']:+.1f} % |" for n, r in part["rows"].items()]
        parts += ["## Sampling beyond the model calls", "\n".join(lines), f"Measured with {part['measured with']}."]
    if "sliders" in results:
        part = results["sliders"]
        lines = ["| slider | pictures a second | movement to picture, 95th percentile |", "|---|---|---|"]
        lines += [f"| {n} | {r['rate']:.1f} | {r['lag']:.0f} ms |" for n, r in part["rows"].items()]
        parts += ["## Sliders, in JupyterLab in Chromium", "\n".join(lines), f"Measured with {part['measured with']}."]
    if "lab" in results:
        parts += the_lab(results["lab"])
    if "opening" in results:
        parts += opening(results["opening"])
    if "c2ot" in results:
        part = results["c2ot"]
        rows = part["rows"]
        parts += [
            "## A published table: 8 Gaussians to moons",
            "C2OT's figure 1 (Cheng & Schwing 2025, arXiv 2503.10636): squared W2, there of 10,000 points, here of "
            f"{c2ot.N:,}. Our runs (`tests/benchmarks/c2ot.py`) have the same network size, iterations, batch, solver "
            "and data.",
            c2ot.summary(rows),
            f"The floor, two samples of the moons against each other, is {rows['floor']:.4f}. " + c2ot.collapse(rows),
        ]
    if "lessons" in results:
        part = results["lessons"]
        parts += [
            "## Wall time of the lessons",
            lessons.table(part["rows"]),
            f"In all {sum(part['rows'].values()):.0f} s. Measured with {part['measured with']}.",
        ]
    if "make test" in results:
        row = results["make test"]["rows"]
        parts += [f"`make test`, two processes: {row['seconds']:.0f} s ({row['result'].split(' in ')[0]})."]
    return "\n\n".join(parts) + "\n"


def the_lab(part: dict) -> list[str]:
    lines = [
        "| lab | where | what is dragged | pictures a second | script, ms | hand to picture, ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in part["rows"].items():
        script = f"{row['script']:.1f} ({row['script p95']:.1f})" if "script" in row else "–"
        cells = [*name.split("; "), f"{row['rate']:.1f}", script, f"{row['lag']:.0f} ({row['lag p95']:.0f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return [
        "## The lab",
        "A density on 48 × 48 points, 14 × 14 arrows, and 800 particles or 50 trajectories in 20 midpoint steps, all "
        "computed anew in every picture, in Chromium without a graphics card, which draws at most 60 pictures a "
        "second. The hand moves once in every frame; hand to picture is measured with a slower one. The median, and "
        "in brackets the 95th percentile. In the last row a kernel computes and matplotlib draws the same.",
        "\n".join(lines),
        f"Measured with {part['measured with']}.",
    ]


def opening(part: dict) -> list[str]:
    lines = ["| notebook | the lab answers after, s | first run of its cell, s |", "|---|---|---|"]
    for name, row in part["rows"].items():
        lines.append(f"| {name} | {row['open'] / 1000:.1f} | {row['run'] / 1000:.1f} |")
    return [
        "### Opening a lesson that was not run",
        "From the notebook's first cell to the lab's first answer to a hand, in JupyterLab as `make lab` starts it; "
        "and how long a cell then runs that imports torch and fmlib and makes a lab. The middle of several starts.",
        "\n".join(lines),
        f"Measured with {part['measured with']}.",
    ]


BEGIN, END = "<!-- benchmarks: written by make bench -->", "<!-- end -->"


def readme_block(results: dict) -> str:
    """What the README quotes: the time to quality."""
    lines = ["| " + " | ".join(["data", "recipe", *quality.HEAD]) + " |", "|---" * (2 + len(quality.HEAD)) + "|"]
    for data, row in results["time to quality"]["rows"].items():
        for name, words in NAMES.items():
            runs = row["recipes"].get(name)
            if runs and "as long" not in name:
                lines.append("| " + " | ".join([data, words, *quality.row(runs)]) + " |")
    lines += ["", f"The middle of {seeds(results['time to quality'])} seeds, and the range."]
    return "\n".join(lines)


def in_readme(readme: str, results: dict) -> str:
    """The README with its block of figures replaced, and the run time of each lesson in its table."""
    for name, seconds in results["lessons"]["rows"].items():
        rounded = round(seconds) if seconds < 10 else 5 * round(seconds / 5)
        row = rf"(\(notebooks/{name}\.ipynb\).*\| )[^|]+( \|)$"
        readme, found = re.subn(row, rf"\g<1>{rounded} s\2", readme, flags=re.MULTILINE)
        if found != 1:
            raise ValueError(f"README.md must have one table row for the lesson {name}, found {found}")
    before, rest = readme.split(BEGIN)
    return before + BEGIN + "\n\n" + readme_block(results) + "\n\n" + END + rest.split(END, 1)[1]


def picture(part: dict) -> None:
    """Every run's distance over the seconds of its training, both on log axes, and the goal."""
    plots.use_style()
    data_sets = part["rows"]
    fig, axes = plots.panels(len(data_sets), 3.4, width=9, sharey=True)
    names = [n for n in NAMES if "as long" not in n]
    roles = ("model", "third", "wrong", "data", "other")
    for ax, (data, row) in zip(axes, data_sets.items(), strict=True):
        for name, role in zip(names, roles, strict=True):
            for i, run in enumerate(row["recipes"].get(name, [])):
                label = NAMES[name] if i == 0 else None
                ax.plot(*zip(*quality.points(run), strict=True), color=plots.COLORS[role], lw=1, alpha=0.7, label=label)
        ax.axhline(quality.GOAL, color="0.3", ls="--", lw=1)
        ax.set(xscale="log", yscale="log", xlabel="seconds of training, one thread", title=data)
        plots.plain_log(ax.xaxis, [0.5, 1, 2, 5, 10, 20, 50])
        plots.plain_log(ax.yaxis, [1, 3, 10, 30])
    axes[0].set_ylabel("sliced W2, in floors")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    (DOCS / "time_to_quality.png").write_bytes(plots.png(fig))


def main() -> None:
    results = load()
    (DOCS / "benchmarks.md").write_text(text(results), encoding="utf-8")
    if "time to quality" in results:
        picture(results["time to quality"])
        readme = ROOT / "README.md"
        readme.write_text(in_readme(readme.read_text(encoding="utf-8"), results), encoding="utf-8")
    print(f"docs/benchmarks.md written from {RESULTS.name}")


if __name__ == "__main__":
    main()
