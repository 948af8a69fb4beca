"""The page's modules as one text: what every widget sends, and every form that is refused.

What the joined text does in a browser: tests/browser/test_joined_scripts.py.
"""

import re
from pathlib import Path

import pytest

from fmlib.page import FlowPlayer
from fmlib.page.alive import AnswerBox, Notice
from fmlib.page.lab import FlowLab
from fmlib.page.scripts import STATIC, join, mark, script

WIDGETS = {"player": FlowPlayer, "lab": FlowLab, "answer": AnswerBox, "notice": Notice}


def written(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return folder


def imports(name: str) -> set[str]:
    return set(re.findall(r'from "\./(\w+)\.js"', (STATIC / f"{name}.js").read_text("utf-8")))


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_sends_one_text_without_imports(name):
    """The wrong twin, the file alone, imports modules that no page can find."""
    text = WIDGETS[name]._esm
    assert text in (script(name), join(name)) and re.search(r"export default ?\{ ?render ?\};?\s*$", text)
    assert not re.search(r"^\s*import\b", text, re.MULTILINE)
    assert len(re.findall(r"(?:^|[;}])\s*export\b", text, re.MULTILINE)) == 1
    if imports(name):
        assert re.search(r"^import\b", (STATIC / f"{name}.js").read_text("utf-8"), re.MULTILINE)


def test_every_module_is_there_once_and_after_what_it_imports():
    used = {"answer", "notice"}
    for entry in ("player", "flow", "lab", "predict"):
        order = re.findall(r"^const \$(\w+) = \(\(\) => \{$", join(entry), re.MULTILINE)
        assert order[-1] == entry and len(order) == len(set(order))
        for i, name in enumerate(order):
            assert imports(name) <= set(order[:i]), name
        used |= set(order)
    assert used == {file.stem for file in STATIC.glob("*.js")}  # none is left over


@pytest.mark.parametrize("file", sorted(STATIC.glob("*.js")), ids=lambda file: file.stem)
def test_no_module_grows_long_again(file):
    assert len(file.read_text("utf-8").splitlines()) <= 210


def test_the_whole_translation(tmp_path):
    written(
        tmp_path,
        a='import { x, f as g } from "./b.js";\n\n// A comment may say import.\nconst own = 1;\n\n'
        "export function sum() {\n  return g(x) + own;\n}\n\nexport default { sum };\n",
        b="const own = 2;\nexport const x = own;\nexport function f(v) {\n  return v;\n}\nexport class C {}\n",
    )
    assert join("a", tmp_path) == (
        "const $b = (() => {\n"
        "const own = 2;\nconst x = own;\nfunction f(v) {\nreturn v;\n}\nclass C {}\n"
        "return { x, f, C };\n})();\n\n"
        "const $a = (() => {\n"
        "const { x, f: g } = $b;\nconst own = 1;\n"
        "function sum() {\nreturn g(x) + own;\n}\n"
        "return { sum };\n})();\n\n"
        "const { sum } = $a;\nexport { sum };\nexport default { sum };\n"
    )


def test_names_over_several_lines(tmp_path):
    written(tmp_path, a='import {\n  x,\n  y as z,\n} from "./b.js";\n', b="export const x = 1;\nexport const y = 2;\n")
    assert "const { x, y: z } = $b;" in join("a", tmp_path)


def test_a_door_passes_names_on(tmp_path):
    """The names reach who imports the door. To the door's own code they are unknown, as in a browser: the wrong twin,
    `const { x } = $b;` in the door, would clash with its own x."""
    written(
        tmp_path,
        a='import { x } from "./door.js";\n\nexport default { x };\n',
        door='export { x, y } from "./b.js";\nexport {\n  f,\n} from "./c.js";\nexport const own = 0;\n',
        b="export const x = 1;\nexport const y = 2;\n",
        c="export function f() {}\n",
    )
    assert join("a", tmp_path) == (
        "const $b = (() => {\nconst x = 1;\nconst y = 2;\nreturn { x, y };\n})();\n\n"
        "const $c = (() => {\nfunction f() {}\nreturn { f };\n})();\n\n"
        "const $door = (() => {\nconst own = 0;\nreturn { own, x: $b.x, y: $b.y, f: $c.f };\n})();\n\n"
        "const $a = (() => {\nconst { x } = $door;\n\nreturn { x };\n})();\n\n"
        "const { x } = $a;\nexport default { x };\n"
    )
    assert join("door", tmp_path).endswith("const { own, x, y, f } = $door;\nexport { own, x, y, f };\n")


B = "export const x = 1;\nconst hidden = 2;\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('import b from "./b.js";', "not this one: import b"),
        ('import * as b from "./b.js";', r"not this one: import \* as b"),
        ('import "./b.js";', 'not this one: import "./b.js"'),
        ("import { x } from './b.js';", "not this one: import { x }"),
        ('import { x } from "./b.js"', "not this one: import { x }"),
        ('const y = 1; import { x } from "./b.js";', "not this one: import { x }"),
        ('const b = await import("./b.js");', r"not this one: import\("),
        ("const here = import.meta.url;", "not this one: import.meta"),
        ("export { y };", "not this one: export { y }"),
        ("export { x } from './b.js';", "not this one: export { x } from"),
        ('  export { x } from "./b.js";', "not this one: export { x } from"),
        ('export { x as y } from "./b.js";', "passed on must keep its name, got x as y"),
        ('export { x, x } from "./b.js";', "a name must be exported once, got x again"),
        ('export { hidden } from "./b.js";', r"\./b.js does not export hidden, but x"),
        ('export { default } from "./b.js";', r"\./b.js does not export default, but x"),
        ('export { a } from "./a.js";', "must not form a cycle, got a -> a"),
        ('export { x } from "https://cdn.example/b.js";', 'beside the others, got "https://cdn.example/b.js"'),
        ('export * from "./b.js";', r"not this one: export \*"),
        ("export let y = 1;", "not this one: export let"),
        ("export const { y } = {};", "not this one: export const { y }"),
        ("export function* y() {}", r"not this one: export function\*"),
        ("export async function y() {}", "not this one: export async"),
        ("  export const y = 1;", "not this one: export const y"),
        ("const y = 1; export const z = 2;", "not this one: export const z"),
        ("export default function y() {}", "not this one: export default function"),
        ("export default { y: 1 };", "not this one: export default { y: 1 }"),
        ('import { } from "./b.js";', "a name must be a or a as b, got ''"),
        ('import { "x" as y } from "./b.js";', "a name must be a or a as b, got '\"x\" as y'"),
        ('import { hidden } from "./b.js";', r"\./b.js does not export hidden, but x"),
        ('import { default as y } from "./b.js";', r"\./b.js does not export default, but x"),
        ('import { x } from "./c.js";', r"there is no c.js in "),
        ('import { x } from "../b.js";', r'a module must be "./name.js", beside the others, got "\.\./b.js"'),
        ('import { x } from "./../b.js";', r'beside the others, got "\./\.\./b.js"'),
        ('import { x } from "./deep/b.js";', r'beside the others, got "\./deep/b.js"'),
        ('import { x } from "/b.js";', 'beside the others, got "/b.js"'),
        ('import { x } from "b";', 'beside the others, got "b"'),
        ('import { x } from "https://cdn.example/b.js";', 'beside the others, got "https://cdn.example/b.js"'),
        ('import { a } from "./a.js";', "must not form a cycle, got a -> a"),
    ],
)
def test_other_forms_are_refused_with_file_and_line(tmp_path, line, message):
    (tmp_path / "static" / "deep").mkdir(parents=True)
    for folder in ("", "static", "static/deep"):
        written(tmp_path / folder, b=B)  # what is refused for its path would be found
    written(tmp_path / "static", a=f"// The first line.\n{line}\n")
    with pytest.raises(ValueError, match=f"a.js, line 2: .*{message}"):
        join("a", tmp_path / "static")


def test_longer_cycles_and_defaults_further_down_are_refused(tmp_path):
    written(
        tmp_path,
        a='import { x } from "./b.js";\n',
        b='import { y } from "./c.js";\nexport const x = y;\n',
        c='\nimport { x } from "./b.js";\nexport const y = x;\n',
    )
    with pytest.raises(ValueError, match="c.js, line 2: imports must not form a cycle, got a -> b -> c -> b"):
        join("a", tmp_path)
    written(tmp_path, c="export const y = 1;\n\nexport default { y };\n")
    with pytest.raises(ValueError, match="c.js, line 3: only the entry may have a default, but b.js imports"):
        join("a", tmp_path)
    with pytest.raises(ValueError, match='a module must be "./name.js", beside the others, got "./../a.js"'):
        join("../a", tmp_path)


def test_words_that_are_no_statement_are_let_be(tmp_path):
    text = 'const css = `@import "x";`;\nmodel.export(); // export { all }\nconst of = { import: 1, exported: 2 };\n'
    assert text.replace(" // export { all }", "").strip() in join("a", written(tmp_path, a=text))


LIMITS = {"player": 25_000, "flow": 28_000, "lab": 63_000, "predict": 10_000}


@pytest.mark.parametrize(("name", "limit"), LIMITS.items())
def test_what_travels_is_small(name, limit):
    """Bytes: it is stored with every notebook that shows the widget. Comments and indentation stay behind."""
    text = join(name)
    modules = re.findall(r"^const \$(\w+) =", text, re.MULTILINE)
    assert len(script(name).encode()) <= limit and len(modules) >= 3
    assert not [line for line in text.splitlines() if line.startswith((" ", "//"))]
    assert len(text) < 0.9 * sum(len((STATIC / f"{module}.js").read_text("utf-8")) for module in modules)


@pytest.mark.parametrize("name", ["lab", "player", "predict"])
def test_what_was_made_smaller_is_of_this_text(name):
    """After a change in fmlib/page/static/: `make scripts`. The wrong twin, made of another text, is not sent."""
    assert (STATIC / "built" / f"{name}.js").read_text("utf-8").startswith(mark(join(name)) + "\n")
    assert len(script(name)) < 0.85 * len(join(name))


def test_an_old_one_is_not_sent(tmp_path, monkeypatch):
    written(tmp_path, a="export const x = 1;\n\nexport default { x };\n")
    (tmp_path / "built").mkdir()
    monkeypatch.setattr("fmlib.page.scripts.STATIC", tmp_path)
    monkeypatch.setattr("fmlib.page.scripts.join", lambda name: join(name, tmp_path))
    assert script("a") == join("a", tmp_path)
    small = tmp_path / "built" / "a.js"
    small.write_text(mark(join("a", tmp_path)) + "\nsmall\n")
    assert script("a") == "small\n"
    written(tmp_path, a="export const x = 2;\n\nexport default { x };\n")
    assert script("a") == join("a", tmp_path)
