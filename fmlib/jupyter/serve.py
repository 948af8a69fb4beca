"""The process that fmlib/jupyter/starter.py starts: JupyterLab, with our style sheet, that writes nothing of its own
accord into the reader's ~/.jupyter and ~/.local/share/jupyter. Run as a file, so that torch is not loaded here.
"""

import os
import signal
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.serverapp import ServerApp
from jupyterlab.labapp import LabApp
from traitlets import default


class Server(ServerApp):
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
