"""The player: sliders that follow the hand, because the page draws by itself.

`FlowPlayer` sends its arrays to the page once. Moving t, playing, changing the number of steps or the selection and
hovering are then a matter of `static/player.js` alone; Python hears of it when the hand lets go. The same call leaves
a still picture behind, for pages where nothing runs. `LiveFigure` is for what must be computed anew by the kernel.
"""

from collections.abc import Sequence

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import traitlets
from matplotlib.figure import Figure

from fmlib.page import plots
from fmlib.page.alive import WithStill, family
from fmlib.page.panel import Panel, checked_panel, finite_array, pack, shared_steps, view_limits
from fmlib.page.scripts import script
from fmlib.page.still import draw_still


class FlowPlayer(WithStill, anywidget.AnyWidget):
    """Particles moving along t, over densities and arrows, in one or several linked panels.

    ts:      [F], increasing: the times of `Panel.particles` and the ends of the slider.
    panels:  a list of `Panel`. All `by_steps` must have the same keys.
    alt:     what the player shows, in words.
    limits:  (left, right, bottom, top) of every panel; None: around all particles.
    label, steps_label, choice_label: names of the three controls.

    Traits in step with Python: `t`, `steps` (a key of by_steps), `selection` (a choice); observe or link them, or
    set them. They are sent to Python when a movement ends, not during it.

    Raises ValueError or TypeError, naming the array, for shapes that do not fit and for NaN or infinity; setting a
    trait to a value that it cannot have raises traitlets.TraitError.
    """

    _esm = script("player")
    _data = traitlets.Bytes().tag(sync=True)
    _meta = traitlets.Dict().tag(sync=True)
    t = traitlets.CFloat().tag(sync=True)
    steps = traitlets.Int().tag(sync=True)
    selection = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        ts,
        panels: Sequence[Panel],
        alt: str,
        limits: tuple[float, float, float, float] | None = None,
        *,
        t: float | None = None,
        steps: int | None = None,
        selection: str | None = None,
        label: str = "t",
        steps_label: str = "steps",
        choice_label: str = "show",
    ):
        ts = finite_array("ts", ts, 1)
        if len(ts) < 2 or not bool((np.diff(ts) > 0).all()):
            raise ValueError(f"ts must hold at least two increasing times, got {ts.tolist()[:8]}")
        if isinstance(panels, Panel):
            raise TypeError("panels must be a list of Panel, got a single Panel")
        if not panels:
            raise ValueError("panels must hold at least one Panel, got an empty list")
        if not alt.strip():
            raise ValueError("alt must describe the player in words, got an empty string")
        checked = [checked_panel(panel, f"panels[{i}]", len(ts)) for i, panel in enumerate(panels)]
        values = shared_steps(checked)
        limits = view_limits(limits, checked)
        data, metas = pack(checked, limits)
        choices = list(dict.fromkeys(panel.choice for panel in checked if panel.choice))
        self._choices, self._step_values, self._ts = choices, values, ts
        self._panels, self._limits, self._alt, self._label = checked, limits, alt, label
        self._steps_label = steps_label
        self._still = None
        with family(type(self).__name__, alt) as model_id:
            super().__init__(
                model_id=model_id,
                _data=data,
                _meta={
                    "ts": ts.tolist(),
                    "panels": metas,
                    "alt": alt,
                    "label": label,
                    "steps_label": steps_label,
                    "choice_label": choice_label,
                    "choices": choices,
                    "step_values": values,
                },
                t=float(ts[-1] if t is None else t),
                steps=(values[-1] if values else 0) if steps is None else steps,
                selection=(choices[0] if choices else "") if selection is None else selection,
            )

    @traitlets.validate("t")
    def _check_t(self, proposal):
        first, last = float(self._ts[0]), float(self._ts[-1])
        if not first <= proposal["value"] <= last:
            raise traitlets.TraitError(f"t must lie in [{first:g}, {last:g}], got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("steps")
    def _check_steps(self, proposal):
        if self._step_values and proposal["value"] not in self._step_values:
            raise traitlets.TraitError(f"steps must be one of {self._step_values}, got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("selection")
    def _check_selection(self, proposal):
        if self._choices and proposal["value"] not in self._choices:
            raise traitlets.TraitError(f"selection must be one of {self._choices}, got {proposal['value']!r}")
        return proposal["value"]

    def still(self) -> Figure:
        """The player as a printed page: a row for each panel, five times across, or the values of the second slider."""
        return draw_still(self._panels, self._ts, self._limits, self._label, self._step_values, self._steps_label)

    def _still_bundle(self):
        if self._still is None:
            fig = self.still()
            self._still = plots.png(fig)
            plt.close(fig)
        data = {"image/png": self._still, "text/plain": self._alt}
        return data, {"image/png": {"alt": self._alt, "width": int(100 * plots.WIDTH)}}
