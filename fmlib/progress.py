"""A progress bar that leaves nothing behind in a notebook. tqdm is imported when the first bar is made."""

import sys
from functools import cache


def progress_bar(*args, **kwargs):
    """A bar with tqdm's arguments: in a notebook an output of text, elsewhere tqdm's own."""
    from tqdm import std

    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    return (_output_bar() if in_notebook else std.tqdm)(*args, **kwargs)


@cache
def _output_bar() -> type:
    from tqdm import std

    class OutputBar(std.tqdm):
        """The bar as an output of text, emptied at the end unless `leave` is true.

        tqdm's own bar in a notebook is made of eleven widgets. When it is done they are gone, but not the output that
        shows them: in a notebook that is saved and opened again it is an error, "model not found".
        """

        def __init__(self, *args, **kwargs):
            self._output = None
            super().__init__(*args, **{"ncols": 90, **kwargs, "gui": True})  # gui: it prints nothing itself
            if not self.disable:
                from IPython.display import display

                self._output = display({"text/plain": str(self)}, raw=True, display_id=True)

        def display(self, *_args, **_kwargs) -> None:
            if self._output:
                self._output.update({"text/plain": str(self)}, raw=True)

        def close(self) -> None:
            super().close()
            if self._output:
                self._output.update({"text/plain": str(self)} if self.leave else {}, raw=True)
                self._output = None

    return OutputBar
