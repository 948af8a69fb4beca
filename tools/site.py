"""Write the lessons as static pages into site/: no kernel, no network, and the players still move.

python tools/site.py [NAME ...]      NAME: the beginning of a lesson's file name, such as 04; all if none

Each lesson is executed. A player's data go into the page, where static/player.js draws them through a small stand-in
for the widget model; formulas become MathML, which browsers draw by themselves. Nothing is loaded from elsewhere.
"""

import argparse
import base64
import html
import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import latex2mathml.converter
import ziamath
from fontTools import subset
from nbconvert import HTMLExporter
from nbformat.v4 import new_markdown_cell, new_notebook
from pygments.formatters import HtmlFormatter
from render import NOTEBOOKS, WIDGET_STATE, WIDGET_VIEW, clean, execute, kind_of, read_text
from traitlets.config import Config

from fmlib.page.lab import STATE
from fmlib.page.scripts import script

ROOT = NOTEBOOKS.parent
SITE = ROOT / "site"
TABLE = re.compile(r"^\| \[.*\]\(notebooks/.*$", re.MULTILINE)  # the rows of the README's table of lessons

HIDE_INPUT = Config({"TagRemovePreprocessor": {"enabled": True, "remove_input_tags": {"hide-input"}}})

CSS = """
:root { color-scheme: light dark; --ink: light-dark(#1b1b1b, #e6e6e6); --paper: light-dark(#fff, #161616);
  --faint: light-dark(#5c5c5c, #a6a6a6); --shade: light-dark(#f5f5f5, #232323); --line: light-dark(#ddd, #3a3a3a);
  --link: light-dark(#0060a0, #7cc0ee); }
body { margin: 0 auto; padding: 24px 20px 80px; max-width: 820px; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
a { color: var(--link); } nav { display: flex; gap: 20px; font-size: 14px; } .anchor-link { display: none; }
h1 { line-height: 1.25; } h2 { margin-top: 2.2em; }
pre { background: var(--shade); padding: 10px 12px; border-radius: 6px; overflow-x: auto; font-size: 13px;
  line-height: 1.45; }
.highlight pre { white-space: pre-wrap; overflow-wrap: anywhere; }
:focus-visible { outline: 3px solid #E69F00; outline-offset: 2px; }
.jp-OutputArea-output pre, .output_text pre { background: transparent; padding: 2px 12px; color: var(--ink); }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.9em; }
img { max-width: 100%; height: auto; border-radius: 6px; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: left; }
blockquote { margin: 1em 0; padding: 2px 16px; border-left: 4px solid #E69F00; background: var(--shade); }
math { font-size: 1.06em; font-family: "Lesson Math", "STIX Two Math", "Cambria Math", math; }
.formula { display: block; margin: 1em 0; overflow-x: auto; overflow-y: hidden; }
.jp-InputPrompt, .jp-OutputPrompt, .prompt { display: none; }
@media print { nav, .fm-row { display: none; } }
"""
# Two printed pages, A4 or letter.
SHEET_CSS = """
@page { margin: 9mm 10mm; }
main { max-width: 900px; }
@media print { :root { color-scheme: light; }
  body { font-size: 12.6px; line-height: 1.38; max-width: none; padding: 0; }
  h1 { font-size: 19px; margin: 0 0 6px; } p { margin: 8px 0; } a { color: #0060a0; text-decoration: none; }
  .highlight { break-before: page; }
  pre { font-size: 11.5px; line-height: 1.35; padding: 4px 8px; white-space: pre-wrap; }
  p:has(+ .highlight) { display: none; }
  table { font-size: 12.5px; } th, td { padding: 2px 9px; } .table { margin: 6px 0; break-inside: avoid; } }
"""

# What is wider than the page scrolls; with a place in the tab order it scrolls by keyboard too.
SCROLL = """
for (const box of document.querySelectorAll("pre, .table, .formula")) {
  new ResizeObserver(() => {
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    for (const [name, value] of [["tabindex", 0], ["role", "group"], ["aria-label", "wide content, scrolls"]]) {
      if (scrolls) box.setAttribute(name, value);
      else box.removeAttribute(name);
    }
  }).observe(box);
}
"""
# The traits that a page needs, by kind of widget.
KEPT = {
    "player": {"_meta", "t", "steps", "selection"},
    "lab": {"_meta"} | STATE,
    "predict": {"_meta"},
}
MOUNT = """
const blobs = JSON.parse(document.getElementById("widgets").textContent);
for (const mount of document.querySelectorAll("[data-KIND]")) {
  const state = { ...blobs[mount.dataset.KIND] };
  if (state._data) {
    const bytes = Uint8Array.from(atob(state._data), (c) => c.charCodeAt(0));
    state._data = new DataView(bytes.buffer);
  }
  const model = { get: (k) => state[k], set: (k, v) => { state[k] = v; }, save_changes() {}, on() {}, off() {} };
  render({ model, el: mount });
}
"""


def take_widgets(notebook) -> list[dict]:
    """Replace the outputs of players and labs by places to mount them; return their states, data as base64."""
    held = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    states = []
    for cell in notebook.cells:
        for output in list(cell.get("outputs", [])):
            view = output.get("data", {}).get(WIDGET_VIEW)
            model = held.get(view["model_id"]) if view else None
            if not model or "_meta" not in model["state"]:
                continue
            kind = kind_of(model) or "player"
            state = {name: value for name, value in model["state"].items() if name in KEPT[kind]}
            if kind == "player":
                state["_data"] = next(b["data"] for b in model["buffers"] if b["path"] == ["_data"])
                still = output
            elif kind == "predict":
                still = None  # words, which are in its text
            else:
                still = cell.outputs[cell.outputs.index(output) - 1]  # a lab's is the output before it
                cell.outputs.remove(still)
            words = html.escape(output.data["text/plain"], quote=True)
            without = (
                f'<img alt="{words}" src="data:image/png;base64,{still.data["image/png"].strip()}">' if still else words
            )
            place = f'<div data-{kind}="{len(states)}"></div><noscript>{without}</noscript>'
            output.data = {"text/html": place}
            output.metadata = {}
            states.append(state)
    clean(notebook)
    notebook.metadata.pop("widgets", None)  # nothing here would read the placeholders
    return states


def mathml(source: str, display: str) -> str:
    """One formula. Browsers ignore `mathvariant`, so a styled letter becomes its own Unicode character."""

    def letter(match) -> str:
        style = {"double-struck": "DOUBLE-STRUCK", "script": "SCRIPT", "bold": "BOLD"}[match[1]]
        name = f"{style} CAPITAL {match[2]}"
        for candidate in (f"MATHEMATICAL {name}", name):  # some, such as R, were in Unicode before the others
            try:
                return f'<mi mathvariant="normal">{unicodedata.lookup(candidate)}</mi>'
            except KeyError:
                continue
        raise ValueError(f"no character for {name} in {source!r}")

    markup = latex2mathml.converter.convert(source, display=display)
    markup = re.sub(r'<mi mathvariant="(double-struck|script|bold)">([A-Z])</mi>', letter, markup)
    return markup.replace(r">\|<", ">\u2016<")  # the converter leaves \bigl\| as it is


def math_font(pages_text: str) -> str:
    """STIX Two Math (SIL Open Font License), cut down to the characters of the page, as a CSS rule."""
    font_file = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    inside = "".join(re.findall(r"<math.*?</math>", pages_text, re.DOTALL))
    text = "".join(sorted(set(html.unescape(re.sub(r"<[^>]*>", "", inside)))))
    italic = "".join(map(chr, range(0x1D434, 0x1D468)))
    greek = "".join(map(chr, range(0x1D6E2, 0x1D71C)))
    options = subset.Options(flavor="woff", notdef_outline=True, layout_features=["*"], passthrough_tables=False)
    font = subset.load_font(font_file, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(
        text=text + italic + greek + "\u210e\u221a"
    )  # letters of <mi> are drawn in italics, <msqrt> as a root
    subsetter.subset(font)
    buffer = io.BytesIO()
    font.flavor = "woff"
    font.save(buffer)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'@font-face {{ font-family: "Lesson Math"; src: url(data:font/woff;base64,{data}); }}'


def to_mathml(page: str) -> str:
    """Replace $...$ and $$...$$ outside of code by MathML."""

    def convert(match) -> str:
        block = match[1] is not None
        source = html.unescape(match[1] if block else match[2]).strip()
        # A span scrolls for the formula: <math> may not have the role that a place in the tab order needs.
        return f'<span class="formula">{mathml(source, "block")}</span>' if block else mathml(source, "inline")

    pieces = re.split(r"(<pre.*?</pre>|<code.*?</code>|<script.*?</script>)", page, flags=re.DOTALL)
    formula = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+?)\$", re.DOTALL)
    return "".join(piece if i % 2 else formula.sub(convert, piece) for i, piece in enumerate(pieces))


def to_html(notebook) -> tuple[str, str]:
    """The style element with the page's math font, and the notebook's body with links between the pages."""
    body, _ = HTMLExporter(template_name="basic", config=HIDE_INPUT).from_notebook_node(notebook)
    body = re.sub(r'href="([^"]+)\.ipynb', r'href="\1.html', body)
    body = re.sub(r'<a href="\.\./[^"]*">(.*?)</a>', r"\1", body)  # the tests are not on the site
    body = re.sub(r"<th\b[^>]*>\s*</th>", "<td></td>", body)  # a header without words is none
    body = to_mathml(body)
    font = f"<style>{math_font(body)}</style>"
    return font, body.replace("<table", '<div class="table"><table').replace("</table>", "</table></div>")


def sheet_page() -> str:
    """fmlib's cheat sheet, which prints on two pages."""
    text = (ROOT / "fmlib" / "study" / "texts" / "cheat_sheet.md").read_text(encoding="utf-8")
    font, body = to_html(new_notebook(cells=[new_markdown_cell("# Flow matching on two pages\n\n" + text)]))
    nav = '<nav aria-label="pages"><a href="index.html">all lessons</a></nav>'
    return page("Flow matching on two pages", f"{font}<style>{SHEET_CSS}</style>{nav}\n<main>{body}</main>")


def lesson_page(text: Path, order: list[str]) -> str:
    notebook = read_text(text)
    execute(notebook)
    states = take_widgets(notebook)
    font, body = to_html(notebook)
    alive = ""
    if states:
        data = json.dumps(states).replace("</", "<\\/")
        alive = f'<script type="application/json" id="widgets">{data}</script>\n'
    for kind in KEPT:
        if f'<div data-{kind}="' in body:
            alive += f'<script type="module">\n{script(kind)}{MOUNT.replace("KIND", kind)}</script>\n'
    i = order.index(text.stem)
    links = ['<a href="index.html">all lessons</a>']
    links += [f'<a href="{order[i - 1]}.html">previous</a>'] if i else []
    links += [f'<a href="{order[i + 1]}.html">next</a>'] if i + 1 < len(order) else []
    title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    nav = f'<nav aria-label="pages">{" ".join(links)}</nav>'
    return page(title, f"{font}{nav}\n<main>{body}</main>\n{alive}")


def page(title: str, body: str) -> str:
    # Of Pygments' own styles, the two whose every colour has a contrast of 4.5 : 1 here; tests/browser/test_axe.py.
    light = HtmlFormatter(style="xcode").get_style_defs(".highlight")
    dark = HtmlFormatter(style="monokai").get_style_defs(".highlight")
    highlight = (
        f"@media (prefers-color-scheme: light), print {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ {dark} }}\n"
        ".highlight { background: none; }"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{highlight}\n{CSS}</style></head>\n<body>\n{body}\n<script>{SCROLL}</script>\n</body></html>\n"
    )


def index_page() -> str:
    """The README's table of lessons."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = []
    for line in TABLE.findall(readme):
        link, *cells = (c.strip() for c in line.strip("| ").split("|"))
        name, target = re.fullmatch(r"\[(.*)\]\(notebooks/(.*)\.ipynb\)", link).groups()
        cells = "".join(f"<td>{html.escape(c)}</td>" for c in cells)
        rows.append(f'<tr><td><a href="{target}.html">{html.escape(name)}</a></td>{cells}</tr>')
    picture = base64.b64encode((ROOT / "docs" / "idea.png").read_bytes()).decode()
    alt = re.search(r"!\[(.*?)\]", readme)[1]
    head = "<tr><th>lesson</th><th>you will be able to</th><th>read</th><th>run</th></tr>"
    return page(
        "Flow matching, executed",
        "<main><h1>Flow matching, executed</h1>\n"
        f'<p><img alt="{html.escape(alt)}" src="data:image/png;base64,{picture}"></p>'
        f'\n<div class="table"><table>{head}{"".join(rows)}</table></div>\n'
        '<p><a href="cheat_sheet.html">Everything on two printed pages</a></p></main>',
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, default=SITE, help="the folder to write to (default: site)")
    options = parser.parse_args()
    texts = sorted((NOTEBOOKS / "src").glob("*.py"))
    order = [t.stem for t in texts]
    chosen = [t for t in texts if t.name.startswith(tuple(options.names or [""]))]
    if not chosen:
        sys.exit(f"no lesson in notebooks/src begins with {' or '.join(options.names)}")
    options.out.mkdir(parents=True, exist_ok=True)
    pages = {
        "index": index_page,
        "cheat_sheet": sheet_page,
        **{t.stem: (lambda t=t: lesson_page(t, order)) for t in chosen},
    }
    for name, make in pages.items():
        target = options.out / f"{name}.html"
        target.write_text(make(), encoding="utf-8")
        print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
