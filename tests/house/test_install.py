"""Installation: every pin has a package for every promised Python and system, and the wheel holds what is needed."""

import itertools
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# PyTorch's packages for Macs ask for macOS 14, tools/python_check.py says so.
SYSTEMS = {
    "Linux": "x86_64-unknown-linux-gnu",
    "Linux arm64": "aarch64-unknown-linux-gnu",
    "macOS arm64": "aarch64-apple-darwin",
    "Windows": "x86_64-pc-windows-msvc",
}


@pytest.fixture(scope="module")
def python_check():
    sys.path.insert(0, str(ROOT / "tools"))
    import python_check

    return python_check


def promised(text: str) -> list[str]:
    """The Pythons that a text promises as "3.a to 3.b"."""
    return [
        f"3.{i}" for first, last in re.findall(r"3\.(\d+) to 3\.(\d+)", text) for i in range(int(first), int(last) + 1)
    ]


def test_the_same_pythons_are_promised_everywhere(python_check):
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert [c.split()[-1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d", c)] == PYTHONS
    assert [python_check.name(v) for v in (python_check.OLDEST, python_check.NEWEST)] == [PYTHONS[0], PYTHONS[-1]]
    for name in ("README.md", "Makefile", "requirements.txt"):
        text = (ROOT / name).read_text("utf-8")
        assert promised(text) == PYTHONS and "3.10" not in text, name
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == PYTHONS
    setups = [s["with"]["python-version"] for job in workflow["jobs"].values() for s in job["steps"] if "with" in s]
    assert set(setups) <= {*PYTHONS, "${{ matrix.python }}"}
    environment = (ROOT / "environment.yml").read_text("utf-8")
    assert re.search(r"- python=(\S+)", environment)[1] in PYTHONS
    assert promised("Python 3.10 to 3.13 are needed") != PYTHONS  # the wrong twin


@pytest.mark.parametrize(
    ("version", "system", "machine", "release", "message"),
    [
        ((3, 11), "Linux", "x86_64", "", None),
        ((3, 14), "Windows", "AMD64", "", None),
        ((3, 12), "Darwin", "arm64", "14.5", None),
        ((3, 12), "Linux", "aarch64", "", None),
        ((3, 10), "Linux", "x86_64", "", "3.11 to 3.14 is needed"),
        ((3, 15), "Linux", "x86_64", "", "3.11 to 3.14 is needed"),
        ((2, 7), "Linux", "x86_64", "", "is 2.7. Name another: make PYTHON="),
        ((3, 12), "Darwin", "x86_64", "14.5", "Intel Macs.*use Linux there.*take a Python for arm64"),
        ((3, 12), "Darwin", "arm64", "13.6", "needs macOS 14 or newer, this is 13.6"),
    ],
)
def test_an_unfit_python_or_system_is_named_before_anything_is_installed(
    python_check, version, system, machine, release, message
):
    said = python_check.problem(version, system, machine, release)
    assert said is None if message is None else re.search(message, said)


@pytest.mark.parametrize("name", ["README.md", "Makefile", "environment.yml"])
def test_every_way_in_calls_the_one_starter(name):
    """Nobody is told to start JupyterLab by hand: what the tests start is what the reader starts."""
    text = (ROOT / name).read_text("utf-8")
    assert re.search(r"fmlib lab\b", text) and not by_hand(text)
    assert by_hand(".venv/bin/jupyter lab --notebook-dir=notebooks")  # the wrong twin, as the first edition had it


def by_hand(text: str) -> list[str]:
    return re.findall(r"jupyter[ -]?(?:lab|notebook|server)\s+-\S*|bin/jupyter\b|Scripts.jupyter\b|&& jupyter\b", text)


def pins() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if re.match(r"\w", line)]


def test_each_direct_dependency_is_pinned_within_its_range_once_for_all_pythons():
    from packaging.requirements import Requirement

    pinned = {}
    for line in pins():
        name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()  # no marker: one version for all
        assert name not in pinned
        pinned[name] = version
    for dependency in map(Requirement, PROJECT["dependencies"]):
        assert dependency.specifier.contains(pinned[dependency.name]), dependency


@pytest.fixture(scope="module")
def resolve(tmp_path_factory):
    """A function: (pins, Python, platform) -> None if there are packages for all of them, or what the resolver says."""
    pytest.importorskip("uv", reason="uv, the resolver, is not installed")
    folder = tmp_path_factory.mktemp("resolver")

    def run(lines: list[str], python: str, platform: str) -> str | None:
        command = [
            sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--no-config", "--no-header",
            "--only-binary", ":all:", f"--python-version={python}", f"--python-platform={platform}",
        ]  # fmt: skip
        done = subprocess.run(
            command,
            input="\n".join(lines),
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"},
        )
        return None if done.returncode == 0 else done.stderr

    if (said := run(["six"], "3.12", SYSTEMS["Linux"])) is not None:
        pytest.skip(f"the package index cannot be reached: {said[:300]}")
    return run


@pytest.mark.slow
def test_every_pin_has_a_package_for_every_promised_python_and_system(resolve):
    cases = list(itertools.product(PYTHONS, SYSTEMS))
    with ThreadPoolExecutor(4) as pool:  # most of the time goes into waiting for the index
        said = dict(zip(cases, pool.map(lambda c: resolve(pins(), c[0], SYSTEMS[c[1]]), cases), strict=True))
    words = {case: "fails" if trouble else "resolves" for case, trouble in said.items()}
    table = [f"| {p} | " + " | ".join(words[p, system] for system in SYSTEMS) + " |" for p in PYTHONS]
    failures = [f"{python} on {system}:\n{said[python, system]}" for python, system in cases if said[python, system]]
    print("", f"| Python | {' | '.join(SYSTEMS)} |", "|---" * (1 + len(SYSTEMS)) + "|", *table, sep="\n")
    assert failures == [], "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "python", "platform", "culprit"),
    [
        (["fonttools==4.68.0"], "3.10", SYSTEMS["Linux"], "fonttools"),  # two pins of the first edition,
        (["hypothesis==6.170.17"], "3.10", SYSTEMS["Linux"], "hypothesis"),  # which promised 3.10
        (["numpy==1.26.0"], "3.14", SYSTEMS["Windows"], "numpy"),  # a release, but no wheel
        (["torch==2.13.0"], "3.12", "x86_64-apple-darwin", "torch"),  # Intel Macs
    ],
)
def test_the_resolver_finds_a_missing_package(resolve, lines, python, platform, culprit):
    said = resolve(lines, python, platform)
    assert said is not None and "No solution found" in said and culprit in said


@pytest.mark.slow
def test_the_wheel_holds_the_settings_the_texts_and_the_pages_code(tmp_path):
    """Built from the files that git knows, so that nothing left over in a folder counts."""
    source = tmp_path / "source"
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in names:
        if re.match(r"fmlib/|pyproject|README|LICENSE", name) and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if name.startswith("fmlib/")}
        scripts = next(wheel.read(n).decode() for n in wheel.namelist() if n.endswith("entry_points.txt"))
        # Elsewhere, without the repository, the command says what it lacks. torch is not needed for that.
        wheel.extractall(tmp_path / "installed")
    assert held == {name for name in names if name.startswith("fmlib/")}
    assert {"fmlib/jupyter/serve.py", "fmlib/jupyter/shipped.json", "fmlib/jupyter/custom/custom.css"} <= held
    assert "fmlib = fmlib.__main__:main" in scripts
    done = subprocess.run(
        [sys.executable, "-m", "fmlib", "lab"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
    )  # fmt: skip
    assert done.returncode == 2 and "name the folder of the lessons: python -m fmlib lab FOLDER" in done.stderr
