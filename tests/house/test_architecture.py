"""The house: who may import whom, what `import fmlib` brings, how large the rooms are, and what they are called."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]

# --- who may import whom


@pytest.fixture
def copy(tmp_path):
    """The house without what it shows, to be changed and judged."""
    shutil.copytree(ROOT / "fmlib", tmp_path / "fmlib", ignore=shutil.ignore_patterns("static", "texts", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> str:
    """What import-linter says of the house in `folder`; "" if all contracts are kept."""
    if importlib.util.find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed")
    code = "import importlinter.cli as c; raise SystemExit(c.lint_imports(no_cache=True, no_logo=True))"
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "500"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=environment)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_contracts_are_kept(copy):
    assert lint(copy) == ""


@pytest.mark.parametrize(
    ("room", "line", "message"),
    [
        ("paths", "from fmlib.page import plots", "fmlib.paths -> fmlib.page"),
        ("training", "from fmlib.engine.config import TrainConfig", "fmlib.training -> fmlib.engine.config"),
        ("gaussians", "from fmlib.samplers import heun_sampler", "fmlib.gaussians -> fmlib.samplers"),
        ("page/plots", "from fmlib.study.bank import questions", "fmlib.page.plots -> fmlib.study.bank"),
        ("engine/loop", "from fmlib.page.plots import COLORS", "fmlib.engine.loop -> fmlib.page.plots"),
        ("engine/loop", "from fmlib.study.bank import questions", "fmlib.engine.loop -> fmlib.study.bank"),
        ("study/checker", "from fmlib.page.plots import COLORS", "fmlib.study.checker -> fmlib.page.plots"),
        ("study/checker", "from fmlib.engine import train", "fmlib.study.checker -> fmlib.engine"),
        ("page/plots", "from fmlib.train import main", "fmlib.page.plots -> fmlib.train"),
        ("attic", "import torch", "attic"),  # a room without a place
    ],
)
def test_a_forbidden_import_is_found(copy, room, line, message):
    file = copy / "fmlib" / f"{room}.py"
    file.write_text((file.read_text("utf-8") if file.exists() else "") + f"\n{line}\n", encoding="utf-8")
    assert message in lint(copy)


# --- what `import fmlib` brings

HEAVY = ("matplotlib", "ipywidgets", "anywidget", "sklearn", "fsrs", "yaml", "IPython", "tqdm.auto")


def brings(code: str) -> list[str]:
    """The heavy packages that are loaded after this code, in a new process."""
    code = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_the_mathematics_brings_torch_scipy_and_torchdiffeq_alone():
    with_torch = brings("import torch, scipy.optimize, torchdiffeq")
    assert brings("import fmlib") == with_torch
    assert "matplotlib" in brings("import fmlib.page") and "fsrs" in brings("import fmlib.study")  # the wrong twins


def test_each_wing_can_be_imported_alone():
    import fmlib

    for wing in ("page", "study", "engine", "jupyter", "train"):
        module = importlib.import_module(f"fmlib.{wing}")
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name) and name not in fmlib.__all__


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_imports_every_wing(tmp_path):
    """An environment with the dependencies, but without the repository: what is not packed is missing there."""
    python = tmp_path / "new" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "new"], check=True)
    packages = Path(importlib.util.find_spec("torch").origin).parents[1]
    place = next((tmp_path / "new" / "lib").glob("python*")) / "site-packages"
    (place / "dependencies.pth").write_text(str(packages))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(place),
    ]
    source = tmp_path / "source"
    shutil.copytree(ROOT / "fmlib", source / "fmlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*pip, str(source)], check=True, capture_output=True)
    code = """
import pathlib, fmlib, fmlib.engine, fmlib.page, fmlib.study, fmlib.study.bank, fmlib.jupyter.starter, fmlib.train
assert pathlib.Path(fmlib.__file__).is_relative_to(PLACE), fmlib.__file__
player = fmlib.page.FlowPlayer([0.0, 1.0], [fmlib.page.Panel(fmlib.sample_moons(8)[None].repeat(2, 1, 1))], alt="moons")
assert "canvas" in player._esm and len(fmlib.study.bank.questions()) > 50 and len(fmlib.study.bank.claims()) > 20
assert (fmlib.jupyter.starter.SETTINGS / "custom" / "custom.css").exists() and fmlib.jupyter.starter.SHIPPED.exists()
"""
    run = lambda: subprocess.run(
        [python, "-c", f"PLACE = {str(place)!r}\n{code}"], cwd=tmp_path, capture_output=True, text=True
    )
    done = run()
    assert done.returncode == 0, done.stderr
    shutil.rmtree(place / "fmlib" / "study" / "texts")  # the wrong twin
    assert run().returncode != 0


# --- one place that steps an optimiser


def stepping(folder: Path) -> list[str]:
    """The files that call optimizer.step() or scaler.step(...)."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if re.search(r"\b(optimizer|scaler|opt|adamw?|sgd)\.step$", called, re.I):
                found.append(str(file.relative_to(folder)))
    return found


def test_one_place_steps_the_optimiser_of_a_flow(copy):
    assert stepping(ROOT / "fmlib") == ["digits.py", "learner.py"]  # the digit classifier has its own
    (copy / "fmlib" / "engine" / "second.py").write_text("def step(opt):\n    opt.step()\n")
    assert "engine/second.py" in stepping(copy / "fmlib")


# --- readable in one sitting

ROOMS = "paths gaussians conversions nets training samplers grids couplings guidance".split()


def test_the_mathematics_can_be_read_in_one_sitting():
    lines = {room: (ROOT / "fmlib" / f"{room}.py").read_text("utf-8").count("\n") for room in ROOMS}
    assert sum(lines.values()) <= 1600, lines


def test_every_room_says_first_what_lives_there():
    for file in sorted((ROOT / "fmlib").rglob("*.py")):
        first = (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").split("\n")[0]
        assert len(first) > 30 or first.endswith("."), f"{file.name} begins with {first!r}"


# --- docs/architecture.md

PAGE = ROOT / "docs" / "architecture.md"


def rooms() -> set[str]:
    """Every module of the house, as in the page's table: `paths`, `page/player`; those of a wing's folder as one."""
    names = set()
    for file in (ROOT / "fmlib").rglob("*.py"):
        path = file.relative_to(ROOT / "fmlib").with_suffix("")
        if path.name != "__init__":
            names.add(str(path.parent if len(path.parts) > 2 else path))
    return names


def test_the_page_names_every_room_and_no_other():
    text = PAGE.read_text("utf-8")
    named = set(re.findall(r"^\| `([\w/]+?)(?:\.py|/)?` \|", text, re.MULTILINE))
    assert named == rooms()
    scripts = {file.name for file in (ROOT / "fmlib" / "page" / "static").glob("*.js")}
    assert scripts == set(re.findall(r"`([\w]+\.js)`", text))
    drawn = re.findall(r'class="label"[^>]*>([\w]+)/?<', (ROOT / "docs" / "house.svg").read_text("utf-8"))
    assert sorted(drawn) == sorted(name.split("/")[-1] for name in rooms())
    layers = next(c for c in CONTRACTS if c["type"] == "layers")["layers"]
    assert {room for layer in layers for room in re.findall(r"\w+", layer)} == {name.split("/")[0] for name in rooms()}


def test_every_place_that_the_page_names_exists():
    text = PAGE.read_text("utf-8")
    places = re.findall(r"`((?:fmlib|tests|notebooks|tools|docs)/[\w./]*)`", text)
    assert len(places) > 20 and [p for p in places if not (ROOT / p).exists()] == []


# --- numbers of lessons

LESSON = re.compile(r"\b(\d\d_[a-z]\w+)\b")


def forgotten(text: str, names: set[str]) -> list[str]:
    """Lessons that this text names, by file or by number, and that do not exist."""
    numbers = {name[:2] for name in names if name[:2].isdigit()}
    files = [name for name in LESSON.findall(text) if name not in names]
    said = re.findall(r"\b[Ll]essons? (\d\d)\b(?:(?:–|, | and | to | or )(\d\d)\b)?", text)
    return files + [n for pair in said for n in pair if n and n not in numbers]


def test_no_text_names_a_lesson_that_is_gone():
    names = {file.stem for file in (ROOT / "notebooks" / "src").glob("*.py")}
    texts = [*(ROOT / "notebooks" / "src").glob("*.py"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.json")]
    texts += [p for p in (ROOT / "fmlib").rglob("*") if p.suffix in (".py", ".md", ".yaml", ".json", ".js")]
    texts += [*(ROOT / "tools").glob("*.py"), ROOT / "README.md", ROOT / "Makefile"]
    found = {file.name: forgotten(file.read_text("utf-8"), names) for file in texts}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    for name in names:
        head = (ROOT / "notebooks" / "src" / f"{name}.py").read_text("utf-8").split("# # ", 1)[1]
        assert head.startswith(f"{name[:2]} · ") == name[:2].isdigit(), name


@pytest.mark.parametrize("text", ["see 09_production.ipynb", "as in lesson 42", "lessons 01–11", "lesson 05 and 77"])
def test_a_forgotten_lesson_is_found(text):
    names = {file.stem for file in (ROOT / "notebooks" / "src").glob("*.py")}
    assert len(forgotten(text, names)) == 1
    assert forgotten("see 05_ode_solvers.ipynb, lesson 08, lessons 01–08", names) == []
