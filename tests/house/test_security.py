"""What a reader runs: nothing unpickles, nothing is loaded from elsewhere, JupyterLab stays on this computer."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted(
    [*(ROOT / "fmlib").rglob("*.py"), *(ROOT / "tools").glob("*.py"), *(ROOT / "notebooks" / "src").glob("*.py")]
)
UNSAFE = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}


def dangers(code: str) -> list[str]:
    """Ways in which this code could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {n}" for n in names if n.split(".")[0] in UNSAFE]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            keywords = {k.arg: k.value for k in node.keywords}
            called = ast.unparse(node.func)
            safe = isinstance(keywords.get("weights_only"), ast.Constant) and keywords["weights_only"].value is True
            if called == "torch.load" and not safe:
                found.append("torch.load without weights_only=True")
            if called == "np.load" and "allow_pickle" in keywords:
                found.append("np.load with allow_pickle")
            if called in ("yaml.unsafe_load", "yaml.full_load", "os.system"):
                found.append(called)
            if "shell" in keywords:
                found.append(f"{called} with a shell")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "eval":
            found.append("eval")
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda p: p.name)
def test_no_file_is_unpickled_or_run(path):
    assert dangers(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from joblib import load", "torch.load(f)", "torch.load(f, weights_only=False)", "eval('1')",
     "np.load(f, allow_pickle=True)", "yaml.unsafe_load(f)", "subprocess.run(c, shell=True)", "os.system(c)"],
)  # fmt: skip
def test_each_danger_is_found(code):
    assert len(dangers(code)) == 1


UNSAFE_OPTION = r"token|password|allow_origin|allow_remote|disable_check_xsrf|auth_enabled|0\.0\.0\.0|ip=\*|ip=$"


@pytest.mark.parametrize("user", [0, 1000])
def test_jupyterlab_stays_on_loopback_with_its_token(user, tmp_path, monkeypatch):
    from fmlib.jupyter import starter

    monkeypatch.setattr(starter.os, "geteuid", lambda: user, raising=False)
    options = starter.server_options(ROOT / "notebooks", tmp_path, 8888, False, True)
    assert "--ServerApp.ip=127.0.0.1" in options and ("--allow-root" in options) == (user == 0)
    assert [o for o in options if re.search(UNSAFE_OPTION, o, re.I)] == []
    assert not re.search(UNSAFE_OPTION, "".join(p.read_text("utf-8") for p in starter.SETTINGS.rglob("*.json")), re.I)


@pytest.mark.parametrize(
    "option",
    ["--IdentityProvider.token=", "--ServerApp.ip=0.0.0.0", "--ServerApp.ip=*", "--ServerApp.allow_origin=*",
     "--PasswordIdentityProvider.hashed_password=x", "--ServerApp.disable_check_xsrf=True"],
)  # fmt: skip
def test_each_unsafe_option_is_found(option):
    assert re.search(UNSAFE_OPTION, option, re.I)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_stored_outputs_hold_no_script(path):
    """But the widgets' own, in their state: word for word that of the package, or the few lines that load it."""
    sys.path.insert(0, str(ROOT / "tools"))
    import render

    from fmlib.page.scripts import script

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert set(data) <= {"text/plain", "text/markdown", "text/html", "image/png", render.WIDGET_VIEW}, set(data)
            text = data.get("text/markdown", "") + data.get("text/html", "")
            assert not re.search(r"<script|javascript:|\son\w+=", text, re.I)
            assert data.get("text/html", "<table class").startswith("<table class")
    state = notebook.metadata.get("widgets", {}).get(render.WIDGET_STATE, {}).get("state", {})
    ours = {script("lab"), script("predict")} | {render.LOADER % name for name in state}
    assert {model["state"]["_esm"] for model in state.values() if "_esm" in model["state"]} <= ours


def remote(page: str) -> list[str]:
    """What a page would load from elsewhere when it opens; links that a reader clicks are not meant."""
    loads = re.findall(
        r"<(?:script|img|iframe|link|source|video|audio)\b[^>]*?(?:src|href)\s*=\s*[\"']([^\"']+)", page, re.I
    )
    loads += re.findall(r"url\(\s*[\"']?([^\"')]+)", page) + re.findall(r"@import\s+[\"']([^\"']+)", page)
    loads += re.findall(r"\b(?:fetch|import)\(\s*[\"']([^\"']+)", page)
    return [address for address in loads if re.match(r"(https?:)?//", address)]


def test_static_pages_load_nothing_from_elsewhere():
    from fmlib.page.scripts import join

    sys.path.insert(0, str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("lesson_site", ROOT / "tools" / "site.py")
    site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site)
    for page in (site.sheet_page(), site.index_page(), site.page("t", "b"), join("player"), join("lab"), site.MOUNT):
        assert remote(page) == []
    for page in (
        '<script src="https://cdn.example/x.js">',
        "a { background: url(//x.example/y.png) }",
        'import("https://x/y")',
    ):
        assert len(remote(page)) == 1
