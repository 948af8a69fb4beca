"""A prediction in a browser, without a kernel: the answer is hidden until the reader has said theirs."""

import json

import pytest

from fmlib.page.scripts import script
from fmlib.study import predict

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>prediction</title><style>body { background: light-dark(#fff, #161616); }</style>
<body><main><h1>One</h1><div id="here"></div></main>
<script type="module">%s
const hear = [];
window.sent = [];
const model = { get: () => (%s), on: (_, f) => hear.push(f), off() {}, send: (m) => sent.push(m) };
window.tell = (message) => hear.forEach((f) => f(message));
widget.render({ model, el: document.getElementById("here") });
</script>"""
NUMBER = {"question": "How far?", "answer": 83.0, "low": 0, "high": 300, "unit": " %", "because": "Lines cross."}
CHOICE = {"question": "Which one?", "answer": "the second", "choices": ["the first", "the second", "a third"]}


def show(page, question):
    meta = predict(**question).get_state()["_meta"]
    text = PAGE % (script("predict").replace("export default", "const widget =", 1), json.dumps(meta))
    page.route("http://predict.test/", lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto("http://predict.test/")
    page.wait_for_selector(".fm-predict")


def told(page) -> str:
    return page.locator(".fm-told").inner_text()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("120", "You said 120 %; it is 83 %. That is 1.4 times too much. Lines cross."),
        ("30", "You said 30 %; it is 83 %. That is 2.8 times too little. Lines cross."),
        ("84", "You said 84 %; it is 83 %. Right, within 2 %. Lines cross."),
        ("0", "You said 0 %; it is 83 %. That is 83 % off. Lines cross."),
    ],
)
def test_a_number_is_said_and_compared(page, said, words):
    show(page, NUMBER)
    assert "83" not in page.locator(".fm-predict").inner_text() and told(page) == ""
    page.get_by_role("slider").fill(said)
    assert told(page) == ""  # not before it is said
    page.get_by_role("button", name="I say so").click()
    assert told(page) == words and page.get_by_role("slider").is_disabled()
    assert not page.get_by_role("button", name="I say so").is_visible()
    assert page.evaluate("sent") == [{"ask": True}, {"said": float(said)}] and page.errors == []


def test_a_choice_by_keyboard_alone(page):
    show(page, CHOICE)
    page.get_by_role("button", name="I say so").click()
    assert told(page) == "Choose one first; a guess is enough."
    page.get_by_role("radio", name="the first").focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert told(page) == "You said “a third”. It is “the second”."
    assert page.locator(".fm-right").inner_text().strip() == "the second" and page.evaluate("sent[1]") == {"said": 2}


def test_what_was_said_before_is_shown_again(page):
    show(page, CHOICE)
    page.evaluate("tell({ said: 1 })")
    assert told(page) == "Right." and page.get_by_role("radio", name="the second").is_checked()
    assert page.evaluate("sent") == [{"ask": True}]  # and not said twice


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("question", [NUMBER, CHOICE], ids=["number", "choice"])
def test_no_rule_of_accessibility_is_broken(page, theme, question):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=theme)
    show(page, question)
    page.evaluate("tell({ said: 1 })")
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"][:80] for n in v["nodes"]]) for v in found] == []
