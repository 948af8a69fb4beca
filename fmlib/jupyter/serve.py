"""The process that fmlib/jupyter/starter.py starts: JupyterLab, with our style sheet, that writes nothing of its own
accord into the reader's ~/.jupyter and ~/.local/share/jupyter, and keeps one kernel in reserve. Run as a file, so
that torch is not loaded here.
"""

import asyncio
import os
import signal
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyterlab.labapp import LabApp
from tornado import web
from traitlets import default

NAME = "JPY_SESSION_NAME"  # the one variable that differs from kernel to kernel: its notebook

# What a lesson imports first, except fmlib itself, which a reader may edit while the kernel waits. In a thread, so that
# the kernel answers meanwhile; after a while, so that the page is opened first; in a dictionary, so that no name is
# left behind. Of failures the reader's own import will tell. Where memory is scarce torch's 200 MB are not taken.
WARM = """exec('''
import threading, time
def warm():
    time.sleep({delay})
    try:
        import psutil
        if psutil.virtual_memory().available > 3e9:
            import torch, torchdiffeq, scipy.optimize, matplotlib.pyplot
    except Exception:
        pass
threading.Thread(target=warm, daemon=True).start()
''', {{}})"""


class Reserve(AsyncMappingKernelManager):
    """Starts one kernel before it is asked for: stored widgets answer to a hand only when a kernel answers.

    The first notebook that asks for the same kernel, folder and environment gets it. All else is started as usual, and
    so is everything when the reserve fails. No list of kernels shows it before.
    """

    KERNEL = "python3"
    AGAIN = 10.0  # seconds until the next is started: the page that got this one has settled by then
    DELAY = 8.0  # seconds after its start before it imports
    START, ANSWER = 20.0, 3.0  # seconds that it may take to be there, and to answer when it is handed out

    spare = timer = spare_id = None

    def refill(self) -> None:
        self.spare_id = self.new_kernel_id()
        self.spare_env = {**os.environ, NAME: self.root_dir}
        self.spare = asyncio.ensure_future(self._prepare(self.spare_id, self.spare_env))
        self.spare.add_done_callback(lambda task: task.cancelled() or task.exception())  # told when it is handed out

    async def _prepare(self, kernel_id: str, env: dict):
        """Start it in the lessons' folder; return a client that it has answered."""
        self.kernel_spec_manager.get_kernel_spec(self.KERNEL)  # or Jupyter would report an error that is none
        start = super().start_kernel(kernel_id=kernel_id, kernel_name=self.KERNEL, path="", env=dict(env))
        await asyncio.shield(asyncio.ensure_future(start))  # a process that is half started is known to nobody
        client = self.get_kernel(kernel_id).client()
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        try:
            await client.execute(
                WARM.format(delay=self.DELAY), silent=True, store_history=False, reply=True, timeout=self.START
            )
        except BaseException:
            client.stop_channels()
            raise
        return client

    def _fits(self, path, kernel_name=None, env=None, **others) -> bool:
        return (
            self.spare is not None
            and not others
            and path is not None
            and self.cwd_for_path(path) == self.cwd_for_path("")
            and (kernel_name or self.default_kernel_name) == self.KERNEL
            and NAME in (env or {})
            and env == {**self.spare_env, NAME: env[NAME]}
        )

    async def start_kernel(self, *, kernel_id=None, path=None, **asked) -> str:
        if kernel_id is None and self._fits(path, **asked):
            spare, self.spare = self.spare, None  # at once: two notebooks may ask at the same time
            try:
                return await self._hand_out(spare, self.spare_id, asked["env"])
            except Exception as error:
                self.log.info("The kernel in reserve is not used: %r", error)
            finally:
                self.timer = asyncio.get_running_loop().call_later(self.AGAIN, self.refill)
        return await super().start_kernel(kernel_id=kernel_id, path=path, **asked)

    async def _hand_out(self, spare: asyncio.Task, kernel_id: str, env: dict) -> str:
        """Tell it its notebook, as ipykernel would have read it from its environment."""
        client = None
        try:
            client = await asyncio.wait_for(spare, self.START)
            code = f"globals()['__session__'] = __import__('os').environ[{NAME!r}] = {env[NAME]!r}"
            answer = await client.execute(code, silent=True, store_history=False, reply=True, timeout=self.ANSWER)
            if answer["content"]["status"] != "ok":
                raise RuntimeError(answer["content"])
            self.get_kernel(kernel_id).update_env(env=env)  # for its restarts
            self.spare_id = None
            return kernel_id
        except Exception:
            self.given_up = asyncio.ensure_future(self._discard(kernel_id))  # while the other starts
            raise
        finally:
            if client is not None:
                client.stop_channels()

    async def _discard(self, kernel_id: str) -> None:
        try:
            await self.shutdown_kernel(kernel_id, now=True)
        except Exception as error:
            self.log.info("The kernel in reserve is gone: %r", error)
        self._pending_kernels.pop(kernel_id, None)  # Jupyter's shutdown_all stumbles over what never started

    def kernel_model(self, kernel_id: str) -> dict:
        if kernel_id == self.spare_id:  # so that lists leave it out
            raise web.HTTPError(404, f"Kernel does not exist: {kernel_id}")
        return super().kernel_model(kernel_id)

    async def shutdown_all(self, now: bool = False) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.spare is not None:
            self.spare.cancel()
        await super().shutdown_all(now)


class Server(ServerApp):
    @default("kernel_manager_class")
    def _with_reserve(self) -> type:
        """Where the reader has not chosen another, such as a gateway's."""
        usual = super()._default_kernel_manager_class()
        return Reserve if usual is AsyncMappingKernelManager else usual

    def start_ioloop(self) -> None:
        if isinstance(self.kernel_manager, Reserve):
            self.io_loop.add_callback(self.kernel_manager.refill)
        super().start_ioloop()

    @default("static_custom_path")
    def _style(self) -> list[str]:
        """A folder with one style sheet: ours, then the reader's own, which wins."""
        theirs = Path(self.config_dir) / "custom"
        both = Path(self.runtime_dir) / "custom"
        both.mkdir(exist_ok=True)
        sheets = [folder / "custom.css" for folder in (Path(__file__).parent / "custom", theirs)]
        text = "\n".join(sheet.read_text("utf-8") for sheet in sheets if sheet.exists())
        (both / "custom.css").write_text(text, "utf-8")
        return [str(both), str(theirs)]

    def _data_dir_default(self) -> str:
        return jupyter_data_dir()  # read only: Jupyter's own version creates it

    def migrate_config(self) -> None:
        """No search for settings of IPython 3: it would leave a mark in ~/.jupyter."""

    def init_signal(self) -> None:
        super().init_signal()
        if os.name == "posix":  # one Ctrl-C ends it, without a question, with or without a terminal
            signal.signal(signal.SIGINT, self._signal_stop)


LabApp.serverapp_class = Server
LabApp.migrate_config = Server.migrate_config
LabApp._data_dir_default = Server._data_dir_default

if __name__ == "__main__":
    LabApp.launch_instance()
