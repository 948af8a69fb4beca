"""A page with one lab and no kernel, for the tests; `model` in it is what Python's side would be."""

import json

from fmlib import three_gaussians
from fmlib.page import FlowLab
from fmlib.page.lab import CONTROLS, IN_THE_PLANE, LAYERS, STATE, as_json
from fmlib.page.scripts import script

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width"><title>lab</title>
<style>body { margin: 12px; background: light-dark(#fff, #161616); }</style>
<body><main><h1>A lab</h1><div id="here"></div></main>
<script type="module">%s
const values = %s, listeners = {};
window.model = {
  values, saves: 0, set: (name, value) => { values[name] = value; },
  get: (name) => values[name], save_changes: () => { model.saves += 1; },
  on: (event, f) => { (listeners[event] ??= []).push(f); },
  off: (event, f) => { listeners[event] = listeners[event].filter((g) => g !== f); },
  tell: (name, value) => { values[name] = value; for (const f of listeners["change:" + name]) f(); },
  listening: () => Object.values(listeners).reduce((sum, list) => sum + list.length, 0),
};
window.open_lab = () => (window.close_lab = widget.render({ model, el: document.getElementById("here") }));
open_lab();
</script>"""
TRAITS = STATE - {"mixture"} | {"_meta"}
TOUR = [{"caption": "Here is the noise.", "t": 0.0}, {"caption": "Now the probe.", "t": 0.5, "layers": ["probe"]}]
ALONE = [name for name in CONTROLS if name != "match"]  # of a row
ON_A_LINE = [name for name in ALONE if name not in IN_THE_PLANE]
CENTRE, WIDTH = ".fm-handle.fm-centre >> nth=0", ".fm-handle.fm-width >> nth=0"


def html(mixture=None, stored=None, **options) -> str:
    """The page of one lab. stored: values that stand in the notebook instead of the lab's own."""
    lab = FlowLab(mixture or three_gaussians(), "three clumps", **{"layers": LAYERS, "controls": ALONE, **options})
    state = {name: getattr(lab, name) for name in TRAITS} | {"mixture": as_json(lab.mixture)}
    text = json.dumps(state | (stored or {})).replace("</", "<\\/")  # no value may end the script
    return PAGE % (script("lab").replace("export default", "const widget ="), text)


def show(page, fragment="", text=None, **options):
    text = text or html(**options)
    page.unroute_all()
    page.route("http://lab.test/", lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto(f"http://lab.test/{fragment}")
    page.wait_for_selector(".fm-lab[data-drawn]")


def value(page, name):
    return page.evaluate("name => model.values[name]", name)


def picture(page) -> str:
    page.wait_for_timeout(60)
    return page.evaluate("() => document.querySelector('.fm-lab canvas').toDataURL()")


def middle(page, selector):
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
