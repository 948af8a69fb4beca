"""Write docs/benchmarks.md and its picture from the stored results, docs/benchmarks.json.

python tests/benchmarks/report.py
"""

import statistics

import c2ot
import lessons
import quality
import training
from store import RESULTS, ROOT, load

from fmlib import plots

DOCS = ROOT / "docs"
NAMES = {
    "fmlib_default": "fmlib, default recipe",
    "fmlib_small": "fmlib, width 64, batch 256, 800 steps",
    "fmlib_default, as long as the cap": "fmlib, as long as the cap",
    "quick_reference": "the interview sheet's recipe",
    "torchcfm_tutorial": "torchcfm's tutorial recipe",
    "flow_matching_notebook": "flow_matching's notebook recipe",
}


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
            "W2 of 10,000 samples within three sampling floors, in two checks in a row. A recipe that is not there "
            "when the cap ends is not reached. The middle seed and the range.",
            "![Bars: seconds to three sampling floors for each recipe and data set; a recipe that was not there at "
            "the cap has an open bar.](time_to_quality.png)",
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
    if "c2ot" in results:
        part = results["c2ot"]
        rows = part["rows"]
        parts += [
            "## A published table: 8 Gaussians to moons",
            "C2OT's figure 1 (Cheng & Schwing 2025, arXiv 2503.10636): squared W2, there of 10,000 points, here of "
            f"{c2ot.N:,}. Our runs (`tests/benchmarks/c2ot.py`) have the same network size, iterations, batch, solver "
            "and data.",
            c2ot.summary(rows),
            f"The floor, two samples of the moons against each other, is {rows['floor']:.4f}. "
            "One Euler step of a *perfect* FM model has a closed form: it lands on the mean of the data from "
            f"everywhere, and the distance is tr Var[x_1] = {rows['tr Var of the moons']:.2f}. Less than that is not "
            "better: a field that is not exact at t = 0 leaves some of the blobs' spread, and a spread cloud "
            "is nearer.",
        ]
    if "lessons" in results:
        part = results["lessons"]
        parts += [
            "## Wall time of the lessons",
            lessons.table(part["rows"]),
            f"In all {sum(part['rows'].values()):.0f} s. Measured with {part['measured with']}.",
        ]
    return "\n\n".join(parts) + "\n"


BEGIN, END = "<!-- benchmarks: written by make bench -->", "<!-- end -->"


def readme_block(results: dict) -> str:
    """What the README quotes: the time to quality."""
    rows = []
    for data, row in results["time to quality"]["rows"].items():
        for name, words in NAMES.items():
            runs = row["recipes"].get(name)
            if runs and "as long" not in name:
                reached, last = (quality.middle([r[key] for r in runs]) for key in ("reached", "last"))
                rows.append(f"| {data} | {words} | {reached} | {last} |")
    head = [
        "| data | recipe | seconds of one thread to three sampling floors | floors at its end |",
        "|---|---|---|---|",
    ]
    return "\n".join(head + rows)


def in_readme(readme: str, results: dict) -> str:
    """The README with its block of figures replaced."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + "\n\n" + readme_block(results) + "\n\n" + END + rest.split(END, 1)[1]


def picture(part: dict) -> None:
    """Bars of the median time to the goal; open bars where it was not reached."""
    plots.use_style()
    data_sets = part["rows"]
    fig, axes = plots.panels(len(data_sets), 2.3, width=8, sharey=True)
    for ax, (data, row) in zip(axes, data_sets.items(), strict=True):
        names = [n for n in NAMES if n in row["recipes"] and "as long" not in n]
        for y, name in enumerate(names):
            times = sorted(r["reached"] if r["reached"] is not None else float("inf") for r in row["recipes"][name])
            middle = statistics.median_high(times)
            reached = middle < float("inf")
            color = plots.COLORS["model" if name.startswith("fmlib") else "path"]
            bar = {"color": color} if reached else {"facecolor": "none", "edgecolor": color, "linestyle": "--"}
            ax.barh(y, middle if reached else row["cap"], height=0.6, **bar)
            ax.text(
                (middle if reached else 0) + 0.5,
                y,
                f"{middle:.1f} s" if reached else f"not in {row['cap']:g} s",
                va="center",
                fontsize=8,
            )
        ax.set(
            yticks=range(len(names)), yticklabels=[NAMES[n] for n in names], xlabel="seconds to 3 floors", title=data
        )
        ax.title.set_fontsize(9)
    axes[0].invert_yaxis()  # the panels share it
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
