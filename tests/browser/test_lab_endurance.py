"""A lab under rough hands: a minute of random use, mounting without end, and states that are no states."""

import json
import math
import random
import time
from urllib.parse import quote

import pytest
import torch
from lab_page import ALONE, ON_A_LINE, TOUR, html, show, value

from fmlib import GaussianMixture
from fmlib.page.lab import ADDED, IN_A_ROW, LAYERS, PATHS, PREDICTED, SOLVERS, STATE

SECONDS, SEED = 60, 17  # of random use
LINE = GaussianMixture(torch.tensor([[-2.0], [0.5], [1.5]]).double(), torch.tensor([0.3, 0.4, 0.1]).double())
IN = {
    1: {"mixture": LINE, "controls": ON_A_LINE, "tour": [{**stop, "t": 1.0 - stop["t"]} for stop in TOUR]},
    2: {"controls": ALONE, "tour": TOUR},
    "row": {"row": list(PATHS), **IN_A_ROW},
}
FEW = {"particles": 60, "trajectories": 12, "pairs": 20}
# What a canvas is handed that is no number, what stands in the page that is no word, and what was run that is a string.
WATCH = """
window.strange = []; window.alerts = 0; window.alert = () => { alerts += 1; };
for (const name of ["moveTo", "lineTo", "arc", "drawImage", "fillText", "strokeText"]) {
  const drawn = CanvasRenderingContext2D.prototype[name];
  CanvasRenderingContext2D.prototype[name] = function (...given) {
    if (strange.length < 20 && given.some((v) => typeof v === "number" && !Number.isFinite(v))) {
      const calls = new Error().stack.split("\\n").slice(2, 5).map((line) => line.trim().split(" ")[1]);
      strange.push(`${name}(${given}) ${calls}`);
    }
    return drawn.apply(this, given);
  };
}
window.nonsense = () => [...document.querySelectorAll(".fm-lab, .fm-lab :not(style)")].flatMap((node) => [
  ...[...node.attributes].map(({ name, value }) => `${name}=${value}`), node.value ?? "",
  ...[...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data),
]).filter((text) => /NaN|Infinity|undefined|null|\\[object/.test(text));
window.frames_of = async (n) => { for (let i = 0; i < n; i++) await new Promise(requestAnimationFrame); };
"""


@pytest.fixture
def watched(page):
    page.add_init_script(WATCH)
    return page


def faults(page) -> list[str]:
    return page.errors + page.evaluate("[...strange, ...nonsense(), ...(alerts ? ['alert'] : [])]")


def kept(page) -> dict[str, float]:
    """What a page holds once its rubbish is collected: megabytes, nodes and listeners."""
    page.evaluate("frames_of(3)")
    cdp = page.context.new_cdp_session(page)
    for _ in range(2):  # what a first round sets free may hold more
        cdp.send("HeapProfiler.collectGarbage")
    counts = cdp.send("Memory.getDOMCounters")
    memory = page.evaluate("performance.memory.usedJSHeapSize / 1e6")
    cdp.detach()
    return {"MB": memory, "nodes": counts["nodes"], "listeners": counts["jsEventListeners"]}


class Reader:
    """Hands without a plan. Everything that is chosen comes from the seed; what was done is told in `done`."""

    def __init__(self, page, dim, seed):
        self.page, self.dim, self.random, self.done = page, dim, random.Random(seed), []
        self.actions = [
            self.drag, self.drag, self.drag, self.click, self.keys, self.keys, self.slide, self.slide, self.choose,
            self.press, self.press, self.draw, self.wheel, self.resize, self.theme, self.fold, self.remount,
            self.tell, self.tell, self.all_layers,
        ]  # fmt: skip

    def act(self):
        action = self.random.choice(self.actions)
        self.done.append(action.__name__)
        action()

    def note(self, *what):
        self.done[-1] += f" {what}"
        return what[0]

    def one_of(self, selector):
        found = self.page.locator(f".fm-lab {selector}:visible")
        count = found.count()
        return found.nth(self.note(self.random.randrange(count))) if count else None

    def place(self):
        """Somewhere on the picture or a little beside it."""
        self.page.evaluate("document.querySelector('.fm-scene').scrollIntoView({ block: 'center' })")
        box = self.page.locator(".fm-scene canvas").bounding_box()
        at = lambda start, size: start + size * self.random.uniform(-0.05, 1.05)
        return at(box["x"], box["width"]), at(box["y"], box["height"])

    def stroke(self, between=lambda: None):
        self.page.mouse.down()
        for _ in range(self.random.randint(1, 5)):
            self.page.mouse.move(*self.place(), steps=self.random.randint(1, 3))
        between()
        self.page.mouse.up()

    def drag(self):
        handle = self.one_of(".fm-handle")
        self.place()
        box = handle and handle.bounding_box()
        if box:
            self.page.mouse.move(box["x"] + 14, box["y"] + 14)
            self.stroke(self.random.choice([self.tell, self.keys, *[lambda: None] * 8]))

    def click(self):
        self.page.mouse.click(*self.place())

    def wheel(self):
        handle = self.one_of(".fm-centre")
        if handle and (box := handle.bounding_box()):
            self.page.mouse.move(box["x"] + 14, box["y"] + 14)
            self.page.mouse.wheel(0, self.random.choice([-120, 120]))

    def keys(self):
        handle = self.one_of(self.random.choice([".fm-handle", "input", "canvas"]))
        if handle:
            handle.evaluate("node => node.focus()")
            for _ in range(self.random.randint(1, 6)):
                key = self.random.choice(
                    "ArrowLeft ArrowRight ArrowUp ArrowDown + - ] [ Home End PageUp Delete".split()
                )
                self.page.keyboard.press(self.note(self.random.choice(["", "Shift+"]) + key))

    def slide(self):
        slider = self.one_of("input")
        low, high, step = (float(slider.get_attribute(name)) for name in ("min", "max", "step"))
        slider.fill(
            f"{self.note(self.random.choice([low, high, round(self.random.uniform(low, high) / step) * step])):.3f}"
        )

    def choose(self):
        chooser = self.one_of("select")
        options = chooser.locator("option").count()
        chooser.select_option(index=self.note(self.random.randrange(options)))

    def press(self):
        button = self.one_of("button:not(.fm-handle, :disabled)")
        button.evaluate("node => node.click()")

    def draw(self):
        button = self.page.get_by_role("button", name="draw")
        if self.dim == 2 and button.is_visible():
            button.click()
            for _ in range(2):
                self.page.mouse.move(*self.place())
                self.stroke()
            if self.random.random() < 0.9:  # else it stays on for what comes next
                button.click()

    def resize(self):
        width, height = self.note(self.random.choice([(1280, 1000), (375, 700), (820, 1180), (240, 240), (1900, 1000)]))
        self.page.set_viewport_size({"width": width, "height": height})

    def theme(self):
        self.page.emulate_media(color_scheme=self.random.choice(["light", "dark"]))
        name = self.random.choice(["JupyterLab Dark", "JupyterLab Light"])
        self.page.evaluate("name => document.body.dataset.jpThemeName = name", name)

    def fold(self):
        self.page.evaluate("document.getElementById('here').style.display = 'none'")
        self.tell()
        self.page.evaluate("frames_of(2)")
        self.page.evaluate("document.getElementById('here').style.display = ''")

    def remount(self):
        self.page.evaluate("() => { close_lab(); open_lab(); }")

    def all_layers(self):
        self.page.evaluate("layers => model.tell('layers', layers)", list(LAYERS))

    def tell(self):
        number, choice = self.random.uniform, self.random.choice
        count = self.random.randint(1, 4)
        point = lambda: [number(-3, 3) for _ in range(self.dim)]
        mixture = {
            "means": [point() for _ in range(count)],
            "stds": [choice([0, number(0, 1.5)]) for _ in range(count)],
            "weights": [number(0.01, 1) for _ in range(count)],
        }
        values = {
            "mixture": mixture, "t": choice([0, 1, 1e-9, 1 - 1e-9, number(0, 1)]), "path": choice(list(PATHS)),
            "solver": choice(SOLVERS), "steps": choice([1, 2, 7, 60]), "shift": number(0.1, 10),
            "noise": choice([0, 1, 10]), "condition": choice([[], [0], [0, 1]]), "guidance_scale": number(-10, 20),
            "added": choice(ADDED), "strength": choice([0, number(-10, 10)]), "probe": point(),
            "until": choice([0, 1, number(0, 1)]), "box": [side for x in point() for side in (x, x + number(0.01, 3))],
            "ghost": choice([None, {"path": "ve", "steps": 2}, {"mixture": mixture}]),
            "launched": [{"t": choice([0, 1, 0.3]), "x": point()}], "layers": self.random.sample(LAYERS, 6),
            "predicted": choice(PREDICTED), "error": choice([0, 0.1, 1]),
            "points": choice([0, 0, 1, 30]), "corrected": choice([True, False]), "matched": choice([True, False]),
        }  # fmt: skip
        assert values.keys() == STATE
        name = self.note(choice(sorted(values)), values)
        self.page.evaluate("([name, value]) => model.tell(name, value)", [name, values[name]])


@pytest.mark.parametrize("dim", [1, 2])
def test_a_minute_under_rough_hands(watched, dim, seconds=SECONDS, seed=SEED):
    """Nothing breaks, nothing but numbers is drawn or said, and nothing stays behind when the lab begins again."""
    page = watched
    show(page, **IN[dim], **FEW)
    begin = page.evaluate("JSON.stringify(model.values)")

    def again():
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": 1000})
        page.evaluate(
            """begin => { close_lab(); Object.assign(model.values, JSON.parse(begin));
            history.replaceState(null, "", location.pathname); open_lab(); }""",  # no link that a hand has made
            begin,
        )

    reader = Reader(page, dim, seed)
    told = lambda: f"seed {seed}, {len(reader.done)} actions, the last: " + "; ".join(reader.done[-3:])[:3000]
    for _ in range(20):  # so that what is made once is there
        reader.act()
    again()
    before, end = kept(page), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            reader.act()
        except Exception as error:
            raise AssertionError(told()) from error
        assert faults(page) == [], told()
    assert page.evaluate("document.querySelector('.fm-lab').dataset.drawn") is not None, told()
    again()
    after = kept(page)
    print(f"{dim} dimensions, {len(reader.done)} actions, {before} before, {after} after")
    assert len({line.split(" ")[0] for line in reader.done}) > 12, told()  # it did what it should
    assert after["MB"] - before["MB"] < 5, (before, after, told())
    assert after["nodes"] <= before["nodes"] and after["listeners"] <= before["listeners"], (before, after, told())
    assert faults(page) == [], told()


def test_what_watches_sees(watched):
    """The wrong twins of the test above: a point that is no number, a word, a style, a script, an error."""
    page = watched
    show(page, layers=["density"])
    assert faults(page) == []
    for fault in (
        "document.querySelector('.fm-lab canvas').getContext('2d').lineTo(NaN, 3)",
        "document.querySelector('.fm-lab canvas').getContext('2d').fillText('x', 0, Infinity)",
        "alert(1)",
    ):
        page.evaluate(fault)
        assert len(faults(page)) == 1
        page.evaluate("strange.length = alerts = 0")
    page.evaluate("document.querySelector('.fm-readout').textContent = '(NaN, 1.00)'")
    page.evaluate("document.querySelector('.fm-handle').setAttribute('title', 'undefined, centre')")
    assert faults(page) == ["title=undefined, centre", "(NaN, 1.00)"]
    page.evaluate("setTimeout(() => { throw new Error('thrown'); })")
    page.wait_for_timeout(50)
    assert "thrown" in faults(page)[0]


def grown(page, rounds: int, end: str) -> dict[str, float]:
    """What stays after so many labs were mounted and ended."""
    page.evaluate("close_lab()")
    many = "async ([n, end]) => { for (let i = 0; i < n; i++) { open_lab(); await frames_of(2); eval(end); } }"
    page.evaluate(many, [5, "close_lab()"])  # what is made once
    before = kept(page)
    page.evaluate(many, [rounds, end])
    after = kept(page)
    return {name: after[name] - before[name] for name in before}


@pytest.mark.parametrize("dim", [1, 2, "row"])
def test_fifty_labs_leave_nothing(watched, dim):
    page = watched
    show(page, **IN[dim], **FEW)
    more = grown(page, 50, "close_lab()")
    assert more["MB"] < 2 and more["nodes"] <= 0 and more["listeners"] <= 0, more
    assert page.evaluate("model.listening()") == 0 and page.errors == []
    twin = grown(page, 5, "document.querySelector('.fm-lab').remove()")  # taken away, not closed: Python holds them
    assert twin["listeners"] > 50 and twin["nodes"] > 50, twin


@pytest.mark.parametrize("dim", [1, 2])
def test_every_path_and_solver_at_both_ends(watched, dim):
    """With a data point among the components, where the velocity has a pole, and with noise of the SDE."""
    page = watched
    points = [[0.5] * dim, [-1.0] * dim]
    mixture = {"means": points, "stds": [0, 0.5], "weights": [0.5, 0.5]}
    show(
        page,
        **IN[dim],
        **FEW,
        stored={"mixture": mixture, "t": 0.5, "steps": 5, "condition": [0], "guidance_scale": 3.0},
    )
    for path in PATHS:
        for solver in SOLVERS:
            for t in (0, 1):
                for noise in (0, 1) if solver == "euler" else (0,):
                    setting = {"path": path, "solver": solver, "t": t, "noise": noise, "until": 1 - t}
                    drawn = int(page.evaluate("document.querySelector('.fm-lab').dataset.drawn"))
                    page.evaluate("part => Object.entries(part).forEach((pair) => model.tell(...pair))", setting)
                    page.wait_for_function("n => document.querySelector('.fm-lab').dataset.drawn > n", arg=drawn)
                    assert faults(page) == [], setting
                    assert math.isclose(value(page, "t"), t)


# --- states that are no states

NAN, BIG = float("nan"), 10**9
SCRIPT = "<img src=x onerror=alert(1)><script>alert(1)</script>"
NONE_OF_ANY = [NAN, "Infinity", SCRIPT, {"__proto__": {"t": 1}}, {"a": {"b": [1]}}, [[1], "x"], [NAN], -BIG]
PLANE = {"means": [[0, 0]], "stds": [1], "weights": [1]}
DAMAGED = {
    "mixture": [
        *NONE_OF_ANY, None, [], {}, {"means": [[0, 0], [1]], "stds": [1, 1]}, {"means": [[0, 0, 0]], "stds": [1]},
        {"means": [[]], "stds": [1]}, {"means": [[0, 0]] * 10_000, "stds": [1] * 10_000, "weights": [1] * 10_000},
        *({**PLANE, "means": means} for means in ([[0, None]], [["0", 0]], SCRIPT, [[1e300, 0]], [[5e3, 0]])),
        *({**PLANE, "stds": stds} for stds in ([], [-1], [NAN], ["1"], [1, 1], "1", [1e9])),
        *({**PLANE, "weights": weights} for weights in ([0], [-1], [1, 2], [1e400], ["1"], 1)),
    ],
    **{name: [*NONE_OF_ANY, None, "0.5", True, 1e30] for name in
       ("t", "steps", "shift", "noise", "guidance_scale", "strength", "until", "points", "error")},
    **{name: [*NONE_OF_ANY, None, "true", 0, 1] for name in ("corrected", "matched")},
    **{name: [*NONE_OF_ANY, None, "constructor", "__proto__", ["euler"]] for name in
       ("path", "solver", "added", "predicted")},
    "probe": [*NONE_OF_ANY, [0], [0, 0, 0, 0], [0, None], [1e9, 0], ["0", "0"]],
    "box": [*NONE_OF_ANY, [0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, "1"], [0, 1, 0, NAN]],
    "condition": [*NONE_OF_ANY, None, "0", [-1], [0.5], ["0"], [0] * 10_000],
    "launched": [
        *NONE_OF_ANY, None, [None], [{}], [{"t": 2, "x": [0, 0]}], [{"t": 0.5, "x": [0]}],
        [{"t": 0, "x": [0, 0]}] * 999,
    ],
    "layers": [*NONE_OF_ANY, None, "density", ["nothing"], ["__proto__"], ["density"] * 99],
    "ghost": [
        SCRIPT, 7, [[1], "x"], [], {"t": 7}, {"ghost": {}}, {"mixture": SCRIPT}, {"path": ["ve"]}, {"constructor": 1},
        {"mixture": {"means": [[0]], "stds": [1], "weights": [1]}},
    ],
}  # fmt: skip


def alive(page) -> bool:
    """It draws, and nothing that was handed in as words has become an element or a property."""
    page.evaluate("frames_of(2)")
    drawn = int(page.evaluate("document.querySelector('.fm-lab').dataset.drawn"))
    page.evaluate("model.tell('t', document.querySelector('.fm-lab').dataset.t === '0.25' ? 0.75 : 0.25)")
    page.wait_for_function("n => document.querySelector('.fm-lab').dataset.drawn > n", arg=drawn)
    foreign = "document.querySelectorAll('img, iframe, #here script, #here a').length + alerts + ('t' in {} ? 1 : 0)"
    return faults(page) == [] and page.evaluate(foreign) == 0


def refused(page) -> str:
    found = page.locator(".fm-refused")
    return found.inner_text() if found.is_visible() else ""


def test_every_trait_refuses_what_it_is_not(watched):
    """One message for each, which names the trait or a part of it; the picture stays. Wrong twin: good values."""
    page = watched
    show(page, **IN[2], **FEW, ghost={"path": "ve"})
    assert DAMAGED.keys() == STATE
    good = page.evaluate("model.values")
    parts = {"mixture": ("mixture", "means", "stds", "weights"), "ghost": ("ghost", "t ", "mixture", "path", "means")}
    for name, values in DAMAGED.items():
        for bad in values:
            page.evaluate("([name, value]) => model.tell(name, value)", [name, bad])
            words = refused(page)
            assert "must" in words and any(part in words for part in parts.get(name, (name,))), (name, bad, words)
            assert len(words) < 400, words  # of what came only the beginning is shown
            page.evaluate("([name, value]) => model.tell(name, value)", [name, good[name]])
            page.evaluate("model.tell('steps', model.values.steps === 7 ? 6 : 7)")
            assert refused(page) == "", (name, good[name])
        assert alive(page), name
    assert page.locator(".fm-handle.fm-centre").count() == 3


def test_a_lab_that_was_stored_damaged_still_draws(watched):
    """What is valid of it is kept, the rest has its default; the message names it. Wrong twin: nothing is damaged."""
    page = watched
    show(page, **IN[2], **FEW)
    good = page.evaluate("model.values")
    mount = """values => { window.close_lab?.(); Object.assign(model.values, values); open_lab(); }"""
    page.evaluate(mount, good)
    assert refused(page) == ""
    for name, values in DAMAGED.items():
        for bad in values:
            page.evaluate(mount, {**good, "t": 0.125, name: bad})
            assert "is damaged" in refused(page) and len(refused(page)) < 400, (name, bad)
            page.wait_for_selector(".fm-lab[data-drawn]")
            assert page.locator(".fm-handle.fm-centre").count() == 3
            if name != "t":
                assert page.evaluate("document.querySelector('.fm-lab').dataset.t") == "0.125"
        assert alive(page), name
    page.evaluate(mount, {name: values[0] for name, values in DAMAGED.items()})
    assert all(name in refused(page) for name in STATE - {"ghost"}) and alive(page)
    page.evaluate("names => { for (const name of names) delete model.values[name]; }", sorted(STATE - {"mixture"}))
    page.evaluate(mount, {"mixture": good["mixture"]})  # of an older release, which had fewer traits
    assert refused(page) == "" and alive(page)
    page.evaluate(mount, {**good, "mixture": {"means": [[0], [1]], "stds": [1, 1], "weights": [1, 1]}})
    assert "probe" in refused(page) and alive(page)


def test_a_damaged_line_stays_a_line(watched):
    page = watched
    show(page, **IN[1], **FEW, stored={"mixture": SCRIPT})
    assert "mixture" in refused(page) and alive(page)
    box = page.locator(".fm-scene canvas").bounding_box()
    assert box["width"] > box["height"] and page.locator(".fm-handle.fm-centre").count() == 3


@pytest.mark.parametrize(
    "part",
    [
        {"limits": None}, {"limits": [0, 0, 0, 0]}, {"limits": [NAN, 1, 0, 1]}, {"limits": "0123"}, {"counts": {}},
        {"counts": {"particles": 10**9, "trajectories": 1, "pairs": 1}}, {"counts": {**FEW, "trajectories": 99}},
        {"controls": None}, {"tour": {"length": 10**9}}, {"tour": [None]},
        {"row": "ve"}, {"row": [SCRIPT]},
    ],
)  # fmt: skip
def test_a_lab_that_cannot_be_drawn_says_so_beside_its_still(watched, part):
    """What a lab is made of has no default. The still picture is in the output before."""
    page = watched
    show(page, **IN[2], **FEW)
    still = """() => { const here = document.getElementById("here"); close_lab();
      here.insertAdjacentHTML("beforebegin", `<div class="jp-OutputArea-child">
        <img alt="three clumps" width="${model.values._meta.still}"></div>`);
      here.className = "jp-OutputArea-child"; }"""
    page.evaluate(still)
    shown = "document.querySelector('.jp-OutputArea-child').style.display"
    page.evaluate("() => { open_lab(); return frames_of(3); }")
    assert page.evaluate(shown) == "none"  # the wrong twin: with a lab there, it hides
    page.evaluate("part => { close_lab(); Object.assign(model.values._meta, part); open_lab(); }", part)
    assert "cannot be shown" in refused(page) and page.locator(".fm-lab").count() == 0
    assert page.evaluate(shown) == "" and page.errors == []
    page.evaluate("() => { close_lab?.(); model.values._meta = null; open_lab(); }")
    assert "cannot be shown" in refused(page) and page.errors == []


def test_a_hostile_link_is_words_and_no_more(watched):
    page = watched
    text = html(**IN[2], **FEW, t=0.5)
    show(page, text=text)
    name = value(page, "_meta")["name"]
    for state, words in (
        ("%", "URI"),
        ("%E0%A4%A", "URI"),
        ("%00", "JSON"),
        (SCRIPT, "holds no state"),
        (quote(json.dumps({"mixture": SCRIPT})), "mixture must be"),
        (quote(json.dumps({"probe": [[SCRIPT, 1], 2]})), "probe must be"),
        (
            quote('{"__proto__": {"t": 0.9}, "constructor": {"prototype": {"t": 0.9}}, "path": "__proto__"}'),
            "path must",
        ),
        (quote('{"mixture": {"means": [[0]], "stds": [1]}, "probe": null, "box": null, "launched": []}'), "stay in 2"),
        (quote('{"t": 1e999}'), "t must be"),
        (quote('{"ghost": {"__proto__": {"t": 0.9}}}'), "ghost must be"),
        (quote("[" * 5000), "JSON"),
        ("9" * 200_000, "too many"),
        (quote(json.dumps({"layers": ["density"] * 900})), "layers must be"),
    ):
        page.goto("about:blank")
        show(page, f"#lab-{name}={state}", text=text)
        assert "the link holds no state of this lab" in refused(page) and words in refused(page), (
            state[:80],
            refused(page),
        )
        assert page.evaluate("document.querySelector('.fm-lab').dataset.t") == "0.5"
        assert alive(page), state[:80]
    for unknown in ('{"__proto__": {"t": 0.9}, "t": 0.25}', '{"nothing": "<b>", "t": 0.25}'):  # what is good is taken
        page.goto("about:blank")
        show(page, f"#lab-{name}={quote(unknown)}", text=text)
        assert page.evaluate("document.querySelector('.fm-lab').dataset.t") == "0.25" and refused(page) == ""
        assert alive(page)
