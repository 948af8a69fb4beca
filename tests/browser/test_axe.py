"""No violation of axe-core's rules: every page of the site, light and dark, and the widgets inside JupyterLab."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from lab_server import running_lab
from test_alive import open_notebook, run_all

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted(text.stem for text in (ROOT / "notebooks" / "src").glob("*.py"))
WIDGETS = (
    "import torch; from fmlib.page import *; from fmlib.study import *",
    "FlowPlayer([0.0, 1.0], [Panel(torch.randn(2, 50, 2), title='left'), Panel(by_steps={1: torch.randn(2, 9, 2),"
    " 2: torch.randn(3, 9, 2)}, choice='Euler'), Panel(by_steps={1: torch.randn(2, 9, 2), 2: torch.randn(3, 9, 2)},"
    " choice='Heun')], alt='points that move')",
    "MockInterview()",
)


def violations(page, inside=None) -> list[str]:
    """In words: the rule, how often it is broken, and the first element that breaks it."""
    options = {"resultTypes": ["violations"]}
    found = Axe().run(page, context=inside, options=options).response["violations"]
    return [f"{v['id']} × {len(v['nodes'])}: {v['nodes'][0]['html'][:200]}" for v in found]


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory):
    """All pages, built once: every lesson is executed."""
    folder = tmp_path_factory.mktemp("whole_site")
    done = subprocess.run([sys.executable, ROOT / "tools" / "site.py", "--out", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(params=["light", "dark"])
def themed(browser, request):
    context = browser.new_context(color_scheme=request.param, viewport={"width": 1280, "height": 900}, offline=True)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", ["index", "cheat_sheet", *LESSONS])
def test_no_page_breaks_a_rule(whole_site, themed, name):
    themed.goto((whole_site / f"{name}.html").as_uri())
    themed.wait_for_timeout(300)  # what scrolls is made reachable once it is laid out
    assert violations(themed) == []
    themed.set_viewport_size({"width": 380, "height": 800})
    themed.wait_for_timeout(300)
    assert violations(themed) == []


def test_each_fault_is_found(themed):
    """The wrong twins: grey code, a picture without words, a table's header without words."""
    page = (
        '<!doctype html><html lang="en"><title>t</title>'
        "<style>pre {{ background: #f5f5f5; color: #1b1b1b }}</style>"
        '<main><h1>t</h1><pre><span style="{style}">x = 1</span></pre>{more}</main>'
    )
    good = {"style": "", "more": ""}

    def rules(**change) -> set[str]:
        themed.set_content(page.format(**{**good, **change}))
        return {line.split(" ×")[0] for line in violations(themed)}

    assert rules() == set()
    assert rules(style="color: #bbb") == {"color-contrast"}
    assert rules(more='<img src="data:,">') == {"image-alt"}
    assert rules(more="<table><tr><th></th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>") == {
        "empty-table-header"
    }


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_widgets_in_jupyterlab(page, tmp_path, theme):
    """Only what is ours: the player, and the interview's text box. Names, roles and focus, that is: of contrast axe
    sees little inside JupyterLab's page, so the player's is judged on the site."""
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in WIDGETS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "notebooks" / "widgets.ipynb")
    with running_lab(tmp_path) as address:
        open_notebook(page, address.format("widgets"))
        page.evaluate(
            "async name => { await jupyterapp.commands.execute('apputils:change-theme', {theme: name}); }", theme
        )
        run_all(page)
        page.wait_for_selector(".fm-player canvas")
        page.wait_for_selector(".fm-answer textarea")
        page.wait_for_timeout(1000)
        for ours in (".fm-answer", ".fm-player"):
            page.locator(ours).first.scroll_into_view_if_needed()
            assert violations(page, ours) == []
        page.locator(".fm-player canvas").first.evaluate("c => c.removeAttribute('aria-label')")  # the wrong twin
        assert any(found.startswith("role-img-alt") for found in violations(page, ".fm-player"))
    assert page.errors == []
