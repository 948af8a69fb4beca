"""JupyterLab as the lessons need it, for every reader: `python -m fmlib lab`.

Our settings lie in fmlib/jupyter and are given to this one server. What JupyterLab remembers (open tabs, signatures,
connections) goes into a folder of our own, so nothing is written among the reader's settings, which still hold.
"""

import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = Path(__file__).resolve().parent
SHIPPED = SETTINGS / "shipped.json"
FIRST = "00_quick_reference.ipynb"
PORT = 8888
HIDDEN = ["__pycache__", "*.pyc", "*~", "src", "interview_results.json*"]  # in the list of files


class Refused(Exception):
    """JupyterLab cannot be started as asked; the message says what to do."""


def start_lab(folder: Path | None = None, browser: bool = True, port: int | None = None) -> int:
    """Open the lessons in JupyterLab, on this computer only. Ctrl-C ends it."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise Refused(f"JupyterLab is not installed for {sys.executable}. Try: pip install jupyterlab jupytext")
    folder = find_lessons(folder)
    chosen = free_port(port)
    if chosen != PORT and port is None:
        print(f"Port {PORT} is taken, so the lessons are on port {chosen}.", flush=True)
    if browser and not has_desktop():
        browser = False
        print("There is no desktop browser here: open the address below in one.", flush=True)
    store = own_folder()
    trust_shipped(folder, store)
    command = [
        sys.executable,
        "-P",
        str(SETTINGS / "serve.py"),
        *server_options(folder, store, chosen, port is not None, browser),
    ]
    return become(command, environment(store))


def find_lessons(folder: Path | None = None) -> Path:
    """The folder asked for, or this repository's notebooks, or those of the current folder."""
    places = [folder] if folder is not None else [SETTINGS.parents[1] / "notebooks", Path("notebooks")]
    for place in places:
        if next(place.glob("*.ipynb"), None):
            return place.resolve()
    if folder is None:
        raise Refused(
            "no lessons here: neither beside the installed fmlib nor in ./notebooks. The package holds the library "
            "only. Get the whole project, or name the folder of the lessons: python -m fmlib lab FOLDER"
        )
    what = "holds no notebook (*.ipynb)" if folder.is_dir() else "is no folder" if folder.exists() else "does not exist"
    raise Refused(f"FOLDER should be a folder with lessons; {folder} {what}")


def free_port(asked: int | None = None) -> int:
    """The port asked for, or the first free one from 8888 on."""
    if asked is not None and not 0 < asked < 65536:
        raise Refused(f"--port should be between 1 and 65535, got {asked}")
    for port in range(PORT, PORT + 50) if asked is None else [asked]:
        with socket.socket() as s:
            if os.name == "posix":  # as the server does; or the port would stay taken for a minute after its end
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                s.listen(1)
                return port
            except OSError as error:
                reason = error
    raise Refused(f"port {asked or f'{PORT} to {port}'} cannot be used ({reason.strerror}). Try another: --port N")


def has_desktop() -> bool:
    """Whether a browser window can open. A browser of the terminal (lynx, w3m) would not show the lessons."""
    if sys.platform in ("win32", "darwin") or os.environ.get("BROWSER"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def own_folder() -> Path:
    """Where this server keeps what it must remember; a temporary folder where the reader's home cannot be written."""
    import platformdirs

    try:
        folder = platformdirs.user_state_path("fmlib", appauthor=False)
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="fmlib-"))


def server_options(folder: Path, store: Path, port: int, only_this_port: bool, browser: bool) -> list[str]:
    """Jupyter's options. The token is Jupyter's own: a new one at each start."""
    names = sorted(path.name for path in folder.glob("*.ipynb"))
    first = FIRST if FIRST in names else names[0]
    workspaces = store / "workspaces" / hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0 if only_this_port else 50,
        "ServerApp.root_dir": folder,
        "ServerApp.open_browser": browser,
        "Application.log_level": "ERROR",
        "LabApp.default_url": f"/lab/tree/{first}",
        "LabApp.news_url": None,
        "LabApp.custom_css": True,
        "LabApp.workspaces_dir": workspaces,
        "LanguageServerManager.autodetect": False,  # it would ask npm, at every start
        "NotebookNotary.data_dir": store,
    }
    hidden = [f"--ContentsManager.hide_globs={name}" for name in HIDDEN]
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [f"--{name}={value}" for name, value in options.items()] + hidden + root


def environment(store: Path) -> dict[str, str]:
    """The variables of the server: our settings come after the reader's own, so that theirs win."""
    from jupyter_core.paths import jupyter_config_dir

    paths = [os.environ.get("JUPYTER_CONFIG_PATH"), jupyter_config_dir(), str(SETTINGS)]
    return {
        "JUPYTER_RUNTIME_DIR": str(store / "runtime"),
        **os.environ,
        "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths)),
    }


def digest(notebook: Path) -> str:
    """The hash of all that a notebook holds, outputs included; line ends and spacing of the file do not count."""
    content = json.loads(notebook.read_text("utf-8"))
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def ship(notebook: Path) -> None:
    """Note that this notebook, as it is now, is one that the project ships (tools/render.py calls it)."""
    shipped = json.loads(SHIPPED.read_text("utf-8")) if SHIPPED.exists() else {}
    shipped = {name: known for name, known in shipped.items() if (notebook.parent / name).exists()}
    shipped[notebook.name] = digest(notebook)
    SHIPPED.write_text(json.dumps(shipped, indent=1, sort_keys=True) + "\n", "utf-8")


def trust_shipped(folder: Path, store: Path) -> list[str]:
    """Sign the notebooks that are exactly as shipped, in our own store; return their names.

    JupyterLab shows stored widgets of signed notebooks only. Anything else waits for the reader's own decision.
    """
    import nbformat
    from nbformat.sign import NotebookNotary

    shipped = set(json.loads(SHIPPED.read_text("utf-8")).values())
    store.mkdir(parents=True, exist_ok=True)
    notary = NotebookNotary(data_dir=str(store))
    signed = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            known = digest(path) in shipped
        except (OSError, ValueError):  # JupyterLab itself will say what is wrong with the file
            continue
        if known:
            notary.sign(nbformat.read(path, as_version=4))
            signed.append(path.name)
    notary.store.close()
    return signed


def become(command: list[str], variables: dict[str, str]) -> int:
    """Run the command in the place of this process, which has loaded torch for nothing; on Windows, beside it."""
    if os.name == "posix":
        sys.stdout.flush()
        os.execve(command[0], command, variables)
    process = subprocess.Popen(command, env=variables)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the server got it as well, and ends
            continue
