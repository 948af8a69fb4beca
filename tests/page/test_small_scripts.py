"""One function for all modules: what tools/small_scripts.py makes smaller, and what it refuses."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "small_scripts.py"
spec = importlib.util.spec_from_file_location("small_scripts", TOOL)
spec.loader.exec_module(small_scripts := importlib.util.module_from_spec(spec))

A = 'import { x } from "./b.js";\n\nfunction f() {\n  const hidden = x;\n  return hidden;\n}\n\nexport default { f };\n'


def flat(folder, a=A, b="const hidden = 1;\nexport const x = hidden;\n"):
    for name, text in {"a": a, "b": b}.items():
        (folder / f"{name}.js").write_text(text)
    return small_scripts.flat("a", folder)


def test_modules_share_one_function(tmp_path):
    assert flat(tmp_path) == (
        "const { f } = (() => {\nconst hidden = 1;\nconst x = hidden;\n"
        "function f() {\nconst hidden = x;\nreturn hidden;\n}\nreturn { f };\n})();\nexport default { f };\n"
    )


@pytest.mark.parametrize(
    ("a", "message"),
    [
        (A.replace("function f", "const hidden = 2;\nfunction f"), "declared by one module alone, got hidden again"),
        (A.replace("function f", "let [ hidden, other ] = [2, 3];\nfunction f"), "got hidden again"),
        (A.replace("{ x }", "{ x as y }").replace("= x", "= y"), "a.js: an import must keep its name"),
    ],
)
def test_what_would_change_its_meaning_is_refused(tmp_path, a, message):
    """The wrong twin of each is above: a name inside a function may stand elsewhere too."""
    with pytest.raises(ValueError, match=message):
        flat(tmp_path, a)


@pytest.mark.parametrize("name", ["lab", "player", "predict"])
def test_the_widgets_are_flat(name):
    assert small_scripts.flat(name).count("= (() => {\n") == 1
