"""The live figure: a matplotlib figure that the kernel draws anew whenever one of its sliders moves."""

import asyncio
import io
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from fmlib.page import plots
from fmlib.page.alive import Notice, WithStill, adopt, family


class LiveFigure(WithStill, ipywidgets.VBox):
    """A matplotlib figure that sliders redraw: artists are updated, never rebuilt.

    fig:    a figure that holds all its artists; its layout is fixed here.
    update: called as update(**{name: value}); it changes the artists, and draws nothing.
    sliders: one ipywidgets control for each keyword of `update`, shown below the figure. It is opened anew here:
            show it elsewhere, or link it in the page, afterwards.

    Several changes that arrive before the picture is drawn make one picture. Without a running event loop (a plain
    script) each change draws at once. `flush()` draws what is waiting, now: call it in a cell that moves a slider
    and then looks.
    """

    def __init__(self, fig: Figure, update: Callable[..., None], alt: str, **sliders: ipywidgets.ValueWidget):
        if not sliders:
            raise ValueError("sliders must hold at least one control, got none")
        if not alt.strip():
            raise ValueError("alt must describe the figure in words, got an empty string")
        for name, slider in sliders.items():
            if not isinstance(slider, ipywidgets.ValueWidget):
                raise TypeError(f"{name} must be an ipywidgets control, got {type(slider).__name__}")
            if not slider.description:
                slider.description = name  # screen readers read it
            slider.style.description_width = "initial"  # else long names are cut off
            slider.layout.width = "420px"
        self.fig, self._update, self.sliders = fig, update, sliders
        self._waiting = False
        self.pictures = 0  # how often it was drawn
        plt.close(fig)  # the figure lives on here; pyplot must not show it a second time
        fig.set_dpi(100)
        plots.pixels(fig)
        fig.set_layout_engine("none")  # laying out anew costs more than drawing
        self._alt = alt
        with family(type(self).__name__, alt) as model_id:
            self.image = ipywidgets.Image(format="jpeg", width=int(100 * fig.get_figwidth()))
            self.image.layout.object_fit = "contain"
            self._message = Notice()
            for slider in sliders.values():
                adopt(slider)
                slider.observe(self._changed, names="value")
            super().__init__([self.image, *sliders.values(), self._message], model_id=model_id)
        self._draw()

    def _changed(self, _change) -> None:
        if self._waiting:
            return
        self._waiting = True
        try:
            asyncio.get_running_loop().call_soon(self._flush_and_say)
        except RuntimeError:
            self.flush()

    def flush(self) -> None:
        """Draw now if a change is waiting."""
        if self._waiting:
            self._waiting = False
            self._draw()

    def _flush_and_say(self) -> None:
        """Nobody waits for a scheduled redraw: show its error under the figure instead of losing it in a log."""
        try:
            self.flush()
            self._message.value = ""
        except Exception as error:
            self._message.value = f"{type(error).__name__}: {error}"

    def _draw(self) -> None:
        self._update(**{name: slider.value for name, slider in self.sliders.items()})
        buffer = io.BytesIO()
        plots.pixels(self.fig).save(buffer, "jpeg", quality=85)
        self.image.value = buffer.getvalue()
        self.pictures += 1

    def close(self) -> None:
        """Nor do its sliders draw it any more."""
        if self.comm is not None:
            for slider in self.sliders.values():
                slider.unobserve(self._changed, names="value")
        super().close()

    def _still_bundle(self):
        still = {"image/png": plots.png(self.fig), "text/plain": self._alt}
        self.fig.set_dpi(100)
        return still, {"image/png": {"alt": self._alt, "width": int(100 * self.fig.get_figwidth())}}
