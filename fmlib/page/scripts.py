"""One text out of several modules: the page's JavaScript is written in small files, and a widget sends one text.

The files in `static` are ES modules, as a browser reads them. `join` understands what they use, which is four forms,
each at the beginning of a line; it refuses everything else, as half a translation would fail in the reader's browser.

    import { a, b as c } from "./name.js";
    export function f ...      export const c ...      export class C ...
    export { a, b } from "./name.js";
    export default { a, b };   (the entry alone)
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

STATIC = Path(__file__).parent / "static"

IMPORT = re.compile(r'^import \{([^{}]*)\} from "([^"\n]*)";$', re.MULTILINE)
PASSED = re.compile(r'^export \{([^{}]*)\} from "([^"\n]*)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:function|const|class) ([\w$]+))", re.MULTILINE)
DEFAULT = re.compile(r"^export default \{([\w$, ]*)\};$", re.MULTILINE)
BESIDE = re.compile(r"\./(\w+)\.js")
NAME = re.compile(r"\s*([\w$]+)(?: as ([\w$]+))?\s*")
COMMENT = re.compile(r"(?:^|(?<=\s))//.*$", re.MULTILINE)
KEYWORD = re.compile(r"(?<![\w.$@-])(?:import|export)\b(?!\s*:)")  # not a property, nor @import of CSS


@dataclass
class _Module:
    code: str  # a constant, $name, that holds what the module exports
    exports: list[str]
    default: list[str]


def script(name: str) -> str:
    """What a widget or a page sends: `join`, made a third smaller by tools/small_scripts.py where that was done.

    The first line of static/built/<name>.js says of which text it was made. Of another one, the joined text itself is
    sent: whoever changes a module sees the change at once.
    """
    text, built = join(name), STATIC / "built" / f"{name}.js"
    if not built.is_file():
        return text
    head, _, small = built.read_text(encoding="utf-8").partition("\n")
    return small if head == mark(text) else text


def mark(text: str) -> str:
    """The first line of what was made of this text."""
    return f"// of {hashlib.sha256(text.encode()).hexdigest()}"


def join(name: str, folder: Path = STATIC) -> str:
    """The text of one ES module that does what folder/<name>.js does with all that it imports.

    Each module stands there once, without comments, after those that it imports, in a function of its own, so that
    two modules may use the same private name. The exports of <name>.js are kept, `export default` last.

    Raises ValueError, with file and line, for an import or export in another form, a cycle, a file that is missing or
    not in the folder, and a name that the other module does not export.
    """
    modules: dict[str, _Module] = {}
    entry = _add(f"./{name}.js", Path(folder), modules, (), "join")
    text = "".join(module.code for module in modules.values())
    text += f"const {{ {_listed(entry.exports + entry.default)} }} = ${name};\n"
    if entry.exports:
        text += f"export {{ {_listed(entry.exports)} }};\n"
    if entry.default:
        text += f"export default {{ {_listed(entry.default)} }};\n"
    return text


def _add(path: str, folder: Path, modules: dict[str, _Module], above: tuple[str, ...], place: str) -> _Module:
    """Put the module after those that it imports. above: who waits for it. place: where it is asked for."""
    beside = BESIDE.fullmatch(path)
    if not beside:
        raise ValueError(f'{place}: a module must be "./name.js", beside the others, got "{path}"')
    name = beside[1]
    if name in above:
        raise ValueError(f"{place}: imports must not form a cycle, got {' -> '.join([*above, name])}")
    if name in modules:
        return modules[name]
    if not (folder / path).is_file():
        raise ValueError(f"{place}: there is no {name}.js in {folder}")
    text = (folder / path).read_text(encoding="utf-8")
    _refuse_other_forms(f"{name}.js", text)

    head, own, passed = "", EXPORT.findall(text), {}
    asked = [*IMPORT.finditer(text), *PASSED.finditer(text)]
    for found in sorted(asked, key=lambda found: found.start()):  # the order in which a browser runs them
        place = _place(f"{name}.js", text, found.start())
        module = _add(found[2], folder, modules, (*above, name), place)
        source = f"${BESIDE.fullmatch(found[2])[1]}"
        names = _names(found[1], found[2], module.exports, place)
        if found.re is IMPORT:
            head += f"const {{ {', '.join(f'{a}: {b}' if b else a for a, b in names)} }} = {source};\n"
            continue
        for of, renamed in names:
            if renamed:
                raise ValueError(f"{place}: a name that is passed on must keep its name, got {of} as {renamed}")
            if of in own or of in passed:
                raise ValueError(f"{place}: a name must be exported once, got {of} again")
            passed[of] = f"{of}: {source}.{of}"  # not a constant of this module, whose own code does not know the name
    default = [name for found in DEFAULT.finditer(text) for name in re.findall(r"[\w$]+", found[1])]
    if above and default:
        place = _place(f"{name}.js", text, DEFAULT.search(text).start())
        raise ValueError(f"{place}: only the entry may have a default, but {above[-1]}.js imports this module")
    body = _spare(DEFAULT.sub("", EXPORT.sub("", PASSED.sub("", IMPORT.sub("", text)))))
    held = _listed([*own, *default, *passed.values()])
    code = f"const ${name} = (() => {{\n{head}{body}\nreturn {{ {held} }};\n}})();\n\n"
    modules[name] = _Module(code, [*own, *passed], default)
    return modules[name]


def _spare(code: str) -> str:
    """Without indentation, empty lines and comments: the text travels with every notebook."""
    return "\n".join(line for line in map(str.strip, COMMENT.sub("", code).splitlines()) if line)


def _refuse_other_forms(file: str, text: str) -> None:
    known = {found.start() for form in (IMPORT, PASSED, EXPORT, DEFAULT) for found in form.finditer(text)}
    code = COMMENT.sub(lambda found: " " * len(found[0]), text)  # of the same length: the places stay
    for word in KEYWORD.finditer(code):
        if word.start() not in known:
            line = text[word.start() :].split("\n")[0]
            raise ValueError(f"{_place(file, text, word.start())}: join knows four forms, and not this one: {line}")


def _names(names: str, path: str, exports: list[str], place: str) -> list[tuple[str, str | None]]:
    """`a, b as c` of an import as [(a, None), (b, c)]."""
    found = []
    for part in names.strip().removesuffix(",").split(","):
        name = NAME.fullmatch(part)
        if not name:
            raise ValueError(f"{place}: a name must be a or a as b, got {part.strip()!r}")
        if name[1] not in exports:
            raise ValueError(f"{place}: {path} does not export {name[1]}, but {', '.join(exports) or 'nothing'}")
        found.append((name[1], name[2]))
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _place(file: str, text: str, position: int) -> str:
    return f"{file}, line {text.count(chr(10), 0, position) + 1}"
