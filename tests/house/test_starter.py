"""`python -m fmlib lab`: what it refuses, what it asks of JupyterLab, which notebooks it trusts, and how it ends."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def starter():
    from fmlib.jupyter import starter

    return starter


# The command line -----------------------------------------------------------------------------------------------------


def test_lessons_are_found_beside_the_package_in_the_current_folder_or_where_asked(starter, tmp_path, monkeypatch):
    assert starter.find_lessons() == ROOT / "notebooks"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "mine.ipynb").write_text("{}")
    assert starter.find_lessons(tmp_path / "notebooks") == tmp_path / "notebooks"
    monkeypatch.setattr(starter, "SETTINGS", tmp_path / "site-packages" / "fmlib" / "jupyter")  # an installed wheel
    monkeypatch.chdir(tmp_path)
    assert starter.find_lessons() == tmp_path / "notebooks"
    shutil.rmtree(tmp_path / "notebooks")
    with pytest.raises(starter.Refused, match=r"holds the library only.*python -m fmlib lab FOLDER"):
        starter.find_lessons()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["lba"], "invalid choice: 'lba'"),
        (["lab", "--prot", "8888"], "unrecognized arguments: --prot"),
        (["lab", "--port", "http"], "argument --port: invalid int value: 'http'"),
        (["lab", "--port", "70000"], "--port should be between 1 and 65535, got 70000"),
        (["lab", "no/such/folder"], "no/such/folder does not exist"),
        (["lab", str(ROOT / "docs")], "docs holds no notebook"),
        (["lab", str(LESSONS[0])], "00_quick_reference.ipynb is no folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(Path(v).name for v in value),
)
def test_bad_input_is_refused_with_a_message(arguments, message, capsys, monkeypatch):
    from fmlib import __main__
    from fmlib.jupyter import starter

    monkeypatch.setattr(starter, "become", lambda command, variables: pytest.fail("JupyterLab was started"))
    with pytest.raises(SystemExit) as end:
        sys.exit(__main__.main(arguments))
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_missing_jupyterlab_is_named(starter, monkeypatch):
    monkeypatch.setattr(starter.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(starter.Refused, match="JupyterLab is not installed for .*pip install jupyterlab"):
        starter.start_lab(browser=False)


def test_a_taken_port_is_passed_over_unless_it_was_asked_for(starter):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(1)
        taken = s.getsockname()[1]
        with pytest.raises(starter.Refused, match=rf"port {taken} cannot be used \(Address already in use\)"):
            starter.free_port(taken)
        starter_port, starter.PORT = starter.PORT, taken
        try:
            assert taken < starter.free_port() < taken + 50
        finally:
            starter.PORT = starter_port
    assert starter.free_port(taken) == taken  # at once: nobody waits a minute after Ctrl-C


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {}, False),  # a container: a browser of the terminal, such as lynx, would take it over
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"BROWSER": "my-browser"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_a_browser_is_opened_where_there_is_a_desktop(starter, monkeypatch, system, variables, expected):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(starter.sys, "platform", system)
    assert starter.has_desktop() == expected


def test_a_home_that_cannot_be_written_does_not_stop_it(starter, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if sys.platform == "linux":
        assert starter.own_folder() == tmp_path / "state" / "fmlib"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))  # not a folder, so nobody can write there
    if sys.platform == "linux":
        assert starter.own_folder().is_dir() and tmp_path not in starter.own_folder().parents


def test_lesson_00_opens_and_in_a_folder_without_it_the_first_notebook(starter, tmp_path):
    (tmp_path / "b.ipynb").write_text("{}")
    (tmp_path / "a.ipynb").write_text("{}")
    for folder, first in ((ROOT / "notebooks", "00_quick_reference"), (tmp_path, "a")):
        options = starter.server_options(folder, tmp_path, 8888, False, False)
        assert f"--LabApp.default_url=/lab/tree/{first}.ipynb" in options


# Trust ----------------------------------------------------------------------------------------------------------------


def test_the_shipped_lessons_are_those_of_the_manifest(starter):
    manifest = json.loads(starter.SHIPPED.read_text("utf-8"))
    assert manifest == {path.name: starter.digest(path) for path in LESSONS}, "render the lesson: make render"


def test_only_what_is_shipped_is_trusted(starter, tmp_path):
    """Not with another output, source or metadata; line ends and spacing of the file do not matter."""
    import nbformat
    from nbformat.sign import NotebookNotary

    folder = tmp_path / "notebooks"
    folder.mkdir()
    text = LESSONS[0].read_text("utf-8")
    notebook = json.loads(text)
    changed = {}
    changed["output"] = json.loads(text)
    code = next(c for c in changed["output"]["cells"] if c.get("outputs"))
    code["outputs"].append({"output_type": "display_data", "metadata": {}, "data": {"text/html": "<script>1</script>"}})
    changed["source"] = json.loads(text)
    changed["source"]["cells"][1]["source"] = ["1 + 1"]
    changed["metadata"] = {**notebook, "metadata": {**notebook["metadata"], "widgets": {"state": {"x": 1}}}}
    for name, content in changed.items():
        (folder / f"{name}.ipynb").write_text(json.dumps(content), "utf-8")
    (folder / "broken.ipynb").write_text(text[:1000], "utf-8")
    (folder / LESSONS[0].name).write_bytes(text.encode("utf-8").replace(b"\n", b"\r\n"))  # a checkout on Windows
    (folder / "indented.ipynb").write_text(json.dumps(notebook, indent=4), "utf-8")
    same = [LESSONS[0].name, "indented.ipynb"]
    assert starter.trust_shipped(folder, tmp_path / "store") == same
    notary = NotebookNotary(data_dir=str(tmp_path / "store"))
    for path in folder.glob("*.ipynb"):
        if path.name != "broken.ipynb":
            assert notary.check_signature(nbformat.read(path, as_version=4)) == (path.name in same), path.name
    (tmp_path / "another reader").mkdir()
    elsewhere = NotebookNotary(data_dir=str(tmp_path / "another reader"))
    assert not elsewhere.check_signature(nbformat.read(folder / same[0], as_version=4))


def test_rendering_a_lesson_notes_its_hash(starter, tmp_path, monkeypatch):
    monkeypatch.setattr(starter, "SHIPPED", tmp_path / "shipped.json")
    first, second = tmp_path / "1.ipynb", tmp_path / "2.ipynb"
    for path in (first, second):
        path.write_text("{}")
        starter.ship(path)
    second.unlink()
    first.write_text('{"cells": []}')
    starter.ship(first)
    assert json.loads(starter.SHIPPED.read_text()) == {"1.ipynb": starter.digest(first)}


# The server -----------------------------------------------------------------------------------------------------------


class Lab:
    """A server started as a reader starts it, and asked over HTTP."""

    def __init__(self, folder: Path, home: Path, arguments=(), **variables):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "XDG_", "BROWSER", "DISPLAY"))}
        self.log = home / f"log-{time.monotonic_ns()}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fmlib", "lab", str(folder), *arguments], cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=self.log.open("w"), stderr=subprocess.STDOUT, start_new_session=True,
            env={**kept, "HOME": str(home), **variables},
        )  # fmt: skip
        end = time.monotonic() + 120
        while not (found := re.search(r"(http://127\.0\.0\.1:(\d+))(/lab\S*)\?token=(\w+)", self.said())):
            if self.process.poll() is not None or time.monotonic() > end:
                break
            time.sleep(0.2)
        if found is None:
            self.stop()
            pytest.fail("JupyterLab did not say its address:\n" + self.said())
        self.base, self.port, self.page, self.token = found[1], int(found[2]), found[3], found[4]

    def said(self) -> str:
        return self.log.read_text("utf-8")

    def ask(self, path: str, token: str | None = None, data: bytes | None = None) -> bytes:
        headers = {"Authorization": f"token {self.token if token is None else token}"}
        return urllib.request.urlopen(urllib.request.Request(self.base + path, data, headers), timeout=60).read()

    def stop(self) -> int:
        """One Ctrl-C, as a terminal sends it: to all processes in front."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            pytest.fail("Ctrl-C did not end it:\n" + self.said())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals and HOME as on Linux and macOS")
def test_the_server_is_as_the_lessons_need_it_and_the_readers_settings_still_hold(tmp_path):
    import psutil

    home, folder = tmp_path / "home", tmp_path / "notebooks"
    settings = home / ".jupyter" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text('{"theme": "JupyterLab Dark"}')
    (home / ".jupyter" / "custom").mkdir()
    (home / ".jupyter" / "custom" / "custom.css").write_text("/* my own */")
    (home / ".jupyter" / "labconfig").mkdir()
    (home / ".jupyter" / "labconfig" / "default_setting_overrides.json").write_text(
        '{"@jupyterlab/docmanager-extension:plugin": {"autosaveInterval": 33}, '
        '"@jupyterlab/filebrowser-extension:browser": {"showFileSizeColumn": true}}'
    )
    (home / ".ipython").mkdir()  # Jupyter's own start would look in it for old settings, and leave a mark in ~/.jupyter
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    shutil.copytree(ROOT / "notebooks", folder)
    (folder / "interview_results.json").write_text("{}")
    changed = json.loads(LESSONS[0].read_text("utf-8"))
    changed["cells"][0]["source"] = ["changed"]
    (folder / "foreign.ipynb").write_text(json.dumps(changed))
    lab = Lab(folder, home, ["--no-browser"])
    try:
        assert lab.page == "/lab/tree/00_quick_reference.ipynb"
        listed = {entry["name"] for entry in json.loads(lab.ask("/api/contents"))["content"]}
        assert listed == {"foreign.ipynb", *(path.name for path in LESSONS)}  # neither src nor the reader's results

        def trusted(name):
            cells = json.loads(lab.ask(f"/api/contents/{name}"))["content"]["cells"]
            return {c["metadata"]["trusted"] for c in cells if c["cell_type"] == "code"}

        assert trusted("00_quick_reference.ipynb") == {True} and trusted("foreign.ipynb") == {False}

        def setting(plugin, name):
            answer = json.loads(lab.ask(f"/lab/api/settings/{plugin}"))
            return {**{k: v["default"] for k, v in answer["schema"]["properties"].items()}, **answer["settings"]}[name]

        assert setting("@jupyter-widgets/jupyterlab-manager:plugin", "saveState") is True
        assert setting("@jupyterlab/filebrowser-extension:browser", "showLastModifiedColumn") is False
        assert setting("@jupyterlab/filebrowser-extension:browser", "showFileSizeColumn") is True  # the reader's
        assert setting("@jupyterlab/docmanager-extension:plugin", "autosaveInterval") == 33
        assert setting("@jupyterlab/apputils-extension:themes", "theme") == "JupyterLab Dark"
        style = lab.ask("/custom/custom.css")
        assert 0 < style.find(b"max-width") < style.find(b"/* my own */")
        page = json.loads(re.search(rb'jupyter-config-data"[^>]*>(.*?)</script>', lab.ask("/lab"))[1])
        assert page["news"] == {"disabled": True} and page["buildCheck"] is False
        for wrong in ("", "wrong"):  # the twin of the right token
            with pytest.raises(urllib.error.HTTPError, match="403"):
                lab.ask("/api/contents", token=wrong)
        kernel = json.loads(lab.ask("/api/kernels", data=b'{"name": "python3"}'))["id"]
        children = psutil.Process(lab.process.pid).children(recursive=True)
        assert any(kernel in " ".join(child.cmdline()) for child in children)
    finally:
        code = lab.stop()
    assert code in (0, 130), lab.said()
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    theirs = {path for path in after if {".jupyter", "share"} & set(path.relative_to(home).parts)}
    assert theirs == set(before) and all(after[path] == content for path, content in before.items())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="HOME as on Linux and macOS")
def test_plain_jupyterlab_does_write_among_the_readers_settings(tmp_path):
    """The wrong twin of the test above: without our server the mark, the key and the signatures are in the home."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "XDG_"))}
    (tmp_path / ".ipython").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0", f"--notebook-dir={tmp_path}"],
        env={**variables, "HOME": str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            if (tmp_path / ".local" / "share" / "jupyter" / "runtime").exists():
                break
            time.sleep(0.2)
        assert (tmp_path / ".jupyter" / "migrated").exists()
    finally:
        process.terminate()
        process.wait(timeout=30)


# The kernel in reserve ------------------------------------------------------------------------------------------------

# What a kernel shows of its past: its names, its inputs, the number of the next one, and the notebook that it knows.
SEEN = (
    "dict(names=sorted(globals()), inputs=list(In), count=get_ipython().execution_count,"
    " folder=__import__('os').getcwd(), session=globals().get('__session__'),"
    " variable=__import__('os').environ.get('JPY_SESSION_NAME'), hidden=sorted("
    "get_ipython().user_ns_hidden), history=list(get_ipython().history_manager.get_range(0)),"
    " warm='torch' in __import__('sys').modules)"
)


@pytest.fixture
def reserve(tmp_path, monkeypatch):
    """What runs a test in the server's loop: a manager with two folders and two kernels, its reserve filled."""
    import asyncio

    from ipykernel.kernelspec import write_kernel_spec
    from jupyter_client.kernelspec import KernelSpecManager

    from fmlib.jupyter.serve import Reserve

    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "more"))
    write_kernel_spec(tmp_path / "more" / "kernels" / "another")
    (tmp_path / "notebooks" / "sub").mkdir(parents=True)

    def run(test, filled=True, **settings):
        async def all_of_it():
            manager = type("Reserve", (Reserve,), {"AGAIN": 60.0, "DELAY": 60.0, **settings})(
                root_dir=str(tmp_path / "notebooks"),
                connection_dir=str(tmp_path),
                kernel_spec_manager=KernelSpecManager(),
            )
            try:
                if filled:
                    manager.refill()
                    await manager.spare
                await test(manager)
            finally:
                if getattr(manager, "given_up", None):
                    await manager.given_up
                await manager.shutdown_all(now=True)

        asyncio.run(all_of_it())

    return run


def pid(manager, kernel_id: str) -> int:
    return manager.get_kernel(kernel_id).provisioner.pid


def as_a_notebook_asks(name="a.ipynb", **others) -> dict:
    asked = {"path": "", "kernel_name": "python3", "env": {**os.environ, "JPY_SESSION_NAME": name}, **others}
    return {key: value for key, value in asked.items() if value is not None}


async def look(manager, kernel_id: str) -> dict:
    import ast

    client = manager.get_kernel(kernel_id).client()
    client.start_channels()
    try:
        reply = await client.execute(
            "", silent=True, user_expressions={"seen": SEEN}, store_history=False, reply=True, timeout=60
        )
        return ast.literal_eval(reply["content"]["user_expressions"]["seen"]["data"]["text/plain"])
    finally:
        client.stop_channels()


def test_the_next_notebook_gets_the_kernel_in_reserve(reserve):
    async def test(manager):
        kept, process = manager.spare_id, pid(manager, manager.spare_id)
        assert manager.list_kernels() == [] and kept in manager
        first, second = [await manager.start_kernel(**as_a_notebook_asks(name)) for name in ("a.ipynb", "b.ipynb")]
        assert first == kept and pid(manager, first) == process
        assert second != kept and pid(manager, second) != process  # the twin: there was one in reserve, not two
        assert {model["id"] for model in manager.list_kernels()} == {first, second}
        handed, fresh = await look(manager, first), await look(manager, second)
        assert handed.pop("session") == handed.pop("variable") == "a.ipynb"
        assert fresh.pop("session") == fresh.pop("variable") == "b.ipynb"
        assert handed == fresh and fresh["count"] == 1 and fresh["inputs"] == [""]

    reserve(test)


def test_it_is_handed_out_even_while_it_starts(reserve):
    async def test(manager):
        manager.refill()
        kept = manager.spare_id
        assert await manager.start_kernel(**as_a_notebook_asks()) == kept

    reserve(test, filled=False)


@pytest.mark.parametrize(
    "difference",
    [
        {"path": "sub"},
        {"path": None},
        {"env": {**os.environ, "JPY_SESSION_NAME": "a.ipynb", "OMP_NUM_THREADS": "7"}},
        {"env": None},
        {"kernel_id": "12345678-1234-1234-1234-123456789abc"},
        {"kernel_name": "another"},
    ],
    ids=lambda difference: " ".join(difference),
)
def test_whoever_asks_for_another_kernel_does_not_get_it(reserve, tmp_path, difference):
    async def test(manager):
        kept = manager.spare_id
        started = await manager.start_kernel(**as_a_notebook_asks(**difference))
        assert started != kept and pid(manager, started) != pid(manager, kept)
        if "sub" in difference.values():
            assert (await look(manager, started))["folder"] == str(tmp_path / "notebooks" / "sub")
        assert await manager.start_kernel(**as_a_notebook_asks()) == kept  # it is still there for whom it fits

    reserve(test)


@pytest.mark.skipif(os.name != "posix", reason="a process is halted by a signal")
def test_a_reserve_that_fails_is_replaced_in_silence(reserve):
    import psutil
    from jupyter_client.kernelspec import NoSuchKernel

    async def halted(manager):
        kept, process = manager.spare_id, psutil.Process(pid(manager, manager.spare_id))
        process.suspend()
        started = await manager.start_kernel(**as_a_notebook_asks())
        assert started != kept and (await look(manager, started))["session"] == "a.ipynb"
        await manager.given_up
        assert kept not in manager and not process.is_running()

    async def never_there(manager):
        manager.refill()
        started = await manager.start_kernel(**as_a_notebook_asks())
        assert (await look(manager, started))["session"] == "a.ipynb"

    async def no_such_kernel(manager):
        manager.refill()
        with pytest.raises(NoSuchKernel):  # of the ordinary start
            await manager.start_kernel(**as_a_notebook_asks(kernel_name=None))
        manager._pending_kernels.clear()  # or Jupyter's own shutdown_all would fail

    reserve(halted, ANSWER=0.3)
    reserve(never_there, filled=False, START=0.01)
    reserve(no_such_kernel, filled=False, KERNEL="no such kernel", default_kernel_name="no such kernel")


def test_it_restarts_and_ends_as_any_other(reserve):
    import psutil

    async def test(manager):
        kernel = await manager.start_kernel(**as_a_notebook_asks())
        before = psutil.Process(pid(manager, kernel))
        await manager.restart_kernel(kernel)
        after = psutil.Process(pid(manager, kernel))
        assert after != before and not before.is_running()
        assert (await look(manager, kernel))["session"] == "a.ipynb"
        await manager.shutdown_kernel(kernel)
        assert not after.is_running() and manager.list_kernels() == []

    reserve(test)


def test_what_it_imports_meanwhile_leaves_no_trace(reserve, monkeypatch):
    """The wrong twin says what it imports in the namespace of the notebook."""
    import asyncio

    from fmlib.jupyter import serve

    found = {}

    async def test(manager):
        kernel = await manager.start_kernel(**as_a_notebook_asks())
        while not (seen := await look(manager, kernel)).pop("warm") and manager.DELAY == 0:
            await asyncio.sleep(0.3)
        found[manager.DELAY] = seen

    reserve(test, DELAY=0)
    reserve(test, DELAY=60)
    assert found[0] == found[60]
    monkeypatch.setattr(serve, "WARM", "import torch as warm")
    reserve(test, DELAY=0)
    assert set(found[0]["names"]) - set(found[60]["names"]) == {"warm"}


def test_a_manager_that_the_reader_has_chosen_stays(tmp_path):
    from jupyter_server.gateway.gateway_client import GatewayClient
    from traitlets.config import Config

    from fmlib.jupyter.serve import Reserve, Server

    theirs = "jupyter_server.services.kernels.kernelmanager.MappingKernelManager"
    for config, expected in (({}, True), ({"kernel_manager_class": theirs}, False)):
        server = Server(config=Config(ServerApp=config))
        server.gateway_config = GatewayClient()
        assert (server.kernel_manager_class is Reserve) == expected


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on Linux and macOS")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
def test_the_reserve_ends_with_its_server(tmp_path, end):
    """Also while one is in use and the next is not yet started; and when the server cannot say goodbye."""
    import psutil

    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(LESSONS[0], folder)
    lab = Lab(folder, tmp_path, ["--no-browser"])
    try:
        server = psutil.Process(lab.process.pid)
        for _ in range(100):
            if kernels := server.children():
                break
            time.sleep(0.1)
        assert len(kernels) == 1 and json.loads(lab.ask("/api/kernels")) == []
        asked = {"path": LESSONS[0].name, "type": "notebook", "name": "", "kernel": {"name": "python3"}}
        session = json.loads(lab.ask("/api/sessions", data=json.dumps(asked).encode()))
        assert session["kernel"]["id"] in " ".join(kernels[0].cmdline()) and server.children() == kernels
        os.kill(lab.process.pid, end)
        lab.process.wait(timeout=60)
        _, alive = psutil.wait_procs(kernels, timeout=20)
        assert alive == []
    finally:
        lab.stop()
