"""Make the scripts that widgets send smaller: `make scripts`, after a change in fmlib/page/static/."""

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from fmlib.page.scripts import STATIC, join, mark  # noqa: E402

BUILT = STATIC / "built"
MODULE = re.compile(
    r"^const \$(\w+) = \(\(\) => \{\n((?:const \{ [^\n]* \} = \$\w+;\n)*)(.*?)\nreturn \{ [^\n]* \};\n\}\)\(\);\n",
    re.MULTILINE | re.DOTALL,
)
ENTRY = re.compile(r"^const (\{ [^\n]* \}) = \$\w+;\n((?:export [^\n]*\n)+)\Z", re.MULTILINE)
DECLARED = re.compile(  # at the top of a file: what is in a function is indented
    r"^(?:export )?(?:const|let|class|function\*?) (?:([\w$]+)|[\[{] ?([\w$, ]+?) ?[\]}] =)", re.MULTILINE
)
CSS = re.compile(r"(?<=^const CSS = `\n).*?(?=`;$)", re.MULTILINE | re.DOTALL)


def flat(name: str, folder: Path = STATIC) -> str:
    """What `join` gives, but all modules in one function instead of a function each: no name is said twice.

    Raises ValueError where two modules declare the same name at their top, or one renames what it imports or passes on.
    """
    text = join(name, folder)
    modules, entry = MODULE.findall(text), ENTRY.search(text)
    if not entry or len(modules) != len(re.findall(r"^const \$\w+ = \(\(\) => \{$", text, re.MULTILINE)):
        raise ValueError(f"{name}: the joined text has a form that flat does not know")
    names = Counter()
    for module, head, _ in modules:
        if ": " in head:
            raise ValueError(f"{module}.js: an import must keep its name in a flat script")
        for one, more in DECLARED.findall((folder / f"{module}.js").read_text(encoding="utf-8")):
            names.update((one or more).split(", "))
    twice = [declared for declared, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"{name}: a name must be declared by one module alone, got {', '.join(twice)} again")
    bodies = "\n".join(body for _, _, body in modules)
    return f"const {entry[1]} = (() => {{\n{bodies}\nreturn {entry[1]};\n}})();\n{entry[2]}"


def main() -> None:
    import minify  # of tdewolff-minify; the Makefile installs it

    BUILT.mkdir(exist_ok=True)
    for name in ("lab", "player", "predict"):
        text = CSS.sub(lambda css: minify.string("text/css", css[0]), flat(name))
        small = minify.string("application/javascript", text)
        (BUILT / f"{name}.js").write_text(f"{mark(join(name))}\n{small}\n", encoding="utf-8", newline="\n")
        print(f"{name}: {len(join(name).encode()):,} -> {len(small.encode()):,} bytes")


if __name__ == "__main__":
    main()
