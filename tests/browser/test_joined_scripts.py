"""The joined text in a browser: it is a module that does what its files do."""

import pytest

from fmlib.page.scripts import join

TOY = {
    "numbers": "const secret = 2;\nexport const two = secret;\nexport function twice(x) {\n  return secret * x;\n}\n",
    "shapes": 'import { twice as double } from "./numbers.js";\n\nconst secret = 5;\n\n'
    "export class Square {\n  constructor(side = secret) {\n    this.side = side;\n  }\n"
    "  around() {\n    return double(double(this.side));\n  }\n}\n",
    "entry": 'import { two } from "./numbers.js";\nimport { Square } from "./shapes.js";\n\nconst secret = 7;\n\n'
    "export function strict() {\n  return this === undefined;\n}\n\n"
    "function render() {\n"
    "  return { around: new Square().around(), two, secret, strict: strict(), hidden: typeof twice };\n}\n\n"
    "export default { render };\n",
}
EXPECTED = {"around": 20, "two": 2, "secret": 7, "strict": True, "hidden": "undefined"}
RENDER = """async (text) => {
  const module = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  return [Object.keys(module).sort(), module.default.render()];
}"""


@pytest.fixture
def folder(tmp_path):
    for name, text in TOY.items():
        (tmp_path / f"{name}.js").write_text(text, encoding="utf-8")
    return tmp_path


def test_joined_modules_keep_their_private_names_apart(page, folder):
    """Three modules have a `secret`. The wrong twin, the same text without the functions around them, is no program."""
    text = join("entry", folder)
    assert page.evaluate(RENDER, text) == [["default", "strict"], EXPECTED]
    flat = "".join(TOY.values()).replace("export ", "").replace("default { render };", "export default { render };")
    flat = "\n".join(line for line in flat.split("\n") if not line.startswith("import"))
    with pytest.raises(Exception, match="Identifier 'secret' has already been declared"):
        page.evaluate(RENDER, flat)


def test_a_classic_script_would_not_do(page, folder):
    """The static pages embed the text as a module, which may export; the wrong twin is a script without a type."""
    text = join("entry", folder)
    for kind, shown in ((' type="module"', "20"), ("", "")):
        page.errors.clear()
        page.set_content(f"<p></p><script{kind}>{text}document.querySelector('p').append(render().around);</script>")
        page.wait_for_timeout(100)
        assert page.locator("p").inner_text() == shown
        assert bool(page.errors) == (not shown)
