"""The figures in the README and in docs/ are those of the stored results; and a short run of the published table."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import c2ot  # noqa: E402
import quality  # noqa: E402
import report  # noqa: E402
import store  # noqa: E402

RESULTS = store.load()


def test_the_report_is_that_of_the_stored_results():
    assert (ROOT / "docs" / "benchmarks.md").read_text("utf-8") == report.text(RESULTS)
    changed = {**RESULTS, "training steps": {**RESULTS["training steps"], "rows": {"fmlib": [1e6]}}}
    assert report.text(changed) != report.text(RESULTS)


def test_the_readme_quotes_the_stored_results():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert report.in_readme(readme, RESULTS) == readme
    assert report.readme_block(RESULTS).count("|") > 10
    slower = {**RESULTS, "lessons": {"rows": {**RESULTS["lessons"]["rows"], "03_paths": 99}}}
    assert "| 100 s |" in report.in_readme(readme, slower) and "| 100 s |" not in readme


def test_a_run_that_never_got_there_counts_as_longest():
    assert quality.middle([1.0, None, None]) == "not reached (1.0 – not reached)"
    assert quality.middle([1.0, 2.0, None]) == "2.0 (1.0 – not reached)"
    assert quality.middle([None, None]) == "not reached"


def test_first_and_for_good_are_read_off_the_curve():
    jitter = {"curve": "1:5 2:2.9 3:2.5 4:4 5:2 6:3", "steps": 6}
    assert (quality.first(jitter), quality.settled(jitter)) == (2, 5)
    late = {"curve": "1:5 2:2 3:4 4:2.9", "steps": 4}  # one good check is luck, but the last one ends the run
    assert (quality.first(late), quality.settled(late)) == (4, 4)
    never = {"curve": "1:5 2:3.1", "steps": 2}
    assert quality.first(never) is None and quality.settled(never) is None
    assert quality.row([jitter, never, late]) == [
        "4.0 (2.0 – not reached)",
        "5.0 (4.0 – not reached)",
        "3.0 (2.9 – 3.1)",
        "–",
    ]
    strays = [{**run, "strays": share} for run, share in zip((jitter, never, late), (0.02, 0.03, 0.05), strict=True)]
    assert quality.row(strays)[-1] == "3.0 (2.0 – 5.0)"


def test_storing_one_benchmark_keeps_the_others(tmp_path):
    file = tmp_path / "results.json"
    store.store("a", {"x": 1}, file)
    store.store("b", {"y": 2}, file)
    assert store.load(file)["a"]["rows"] == {"x": 1} and store.load(file)["b"]["rows"] == {"y": 2}


def test_the_published_data_have_the_published_flaws():
    """Blobs of standard deviation 0.1 ** (1/4), not 0.1; the moons' noise moves along the diagonal only."""
    x = c2ot.blobs(40_000)
    nearest = (x.norm(dim=1) - 5).abs()
    assert 0.5 < nearest.square().mean().sqrt() < 0.6
    torch.manual_seed(0)
    a = c2ot.moons(1000)
    torch.manual_seed(1)
    difference = c2ot.moons(1000) - a
    assert torch.allclose(difference[:, 0], difference[:, 1], atol=1e-5) and difference.abs().max() < 0.6 + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("method", c2ot.COUPLINGS)
def test_a_short_run_of_the_published_table(method):
    """500 steps and 500 points: one Euler step of FM collapses towards the mean, that of OT does not."""
    short = c2ot.run(method, seed=0, steps=500, n=500)
    trace = c2ot.mean_collapse(100_000)
    assert trace == pytest.approx(9.0, abs=0.1)
    assert short["adaptive"] < 1.0
    if method == "FM":
        assert 0.3 * trace < short["Euler-1"] < short["Euler-1, collapsed"] < 1.2 * trace
    else:
        assert short["Euler-1"] < 0.2 * trace
