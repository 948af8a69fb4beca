"""The clocks, signs and letters of other people, and the one line that brings their models into ours."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fmlib.checks import at_least_single, check_choice, check_pair, check_t, check_velocity, expand_t


@dataclass(frozen=True)
class Convention:
    """How a paper or a library writes the straight line between noise and data.

    noise_at: its time of noise, 0 or 1; the data are at the other end. noise, data: its letters for them, as LaTeX.
    source: where it says so. time_scale: its *network* is given time_scale times its time.
    x_first: its network is called as model(x, time). sigma_min: noise that it leaves at the data.
    """

    name: str
    noise_at: int
    noise: str
    data: str
    source: str
    time_scale: float = 1.0
    x_first: bool = False
    sigma_min: float = 0.0

    @property
    def sign(self) -> int:
        """What its velocity is multiplied by to become ours: -1 where its time runs from data to noise."""
        return -1 if self.noise_at else 1

    def time(self, t: Tensor) -> Tensor:
        """Its time at our t."""
        return 1 - t if self.noise_at else t

    def interpolate(self, s: Tensor, noise: Tensor, data: Tensor) -> Tensor:
        """The point at its time s [B] between noise and data [B, ...]."""
        check_pair(noise, data, "noise", "data")
        s = expand_t(check_t(s, noise, at_least_single(noise)), noise)
        toward_data = 1 - s if self.noise_at else s
        return ((1 - (1 - self.sigma_min) * toward_data) * noise + toward_data * data).to(noise.dtype)

    def target(self, noise: Tensor, data: Tensor) -> Tensor:
        """The velocity that it regresses, the derivative of `interpolate` in its own time [B, ...]."""
        check_pair(noise, data, "noise", "data")
        return self.sign * (data - (1 - self.sigma_min) * noise)

    def formulas(self) -> tuple[str, str]:
        """Its line and its target in its own letters, as LaTeX."""
        shrink = r"(1-\sigma_{\min})" if self.sigma_min else ""
        if self.noise_at:
            return rf"$(1-t)\,{self.data} + t\,{self.noise}$", f"${self.noise} - {self.data}$"
        return rf"$(1-{shrink}t)\,{self.noise} + t\,{self.data}$", f"${self.data} - {shrink}{self.noise}$"


CONVENTIONS = {
    c.name: c
    for c in (
        Convention("these lessons", 0, "x_0", "x_1", "`fmlib`"),
        Convention("Lipman et al. 2023", 0, "x_0", "x_1", "section 4.1", x_first=True, sigma_min=1e-4),
        Convention("Liu et al. 2022", 0, "X_0", "X_1", "equation 1", x_first=True),
        Convention("Tong et al. 2024", 0, "x_0", "x_1", "section 3, with σ = 0"),
        Convention("SD3", 1, r"\epsilon", "x_0", "Esser et al. 2024, section 3", x_first=True),
        Convention("FLUX", 1, r"\epsilon", "x_0", "official code: samples from 1 to 0", x_first=True),
        Convention(
            "diffusers",
            1,
            r"\mathrm{noise}",
            r"\mathrm{sample}",
            "its Euler scheduler for flow matching",
            time_scale=1000,
            x_first=True,
        ),
        Convention("flow_matching", 0, "x_0", "x_1", "facebookresearch: `CondOTProbPath`", x_first=True),
    )
}


def adapt(model: Callable, convention: str | Convention) -> Callable[..., Tensor]:
    """A foreign velocity model as model(t, x), for every sampler here: its time, its sign, its order of arguments.

    model: returns the velocity [B, ...] in its own convention, given x [B, ...] and its time [B]. A label and keyword
    conditions are handed on to it as they are, so that `guided(adapt(model, ...), ...)` works.
    convention: the name of one of CONVENTIONS, or your own. Raises ValueError for an unknown name.
    """
    if isinstance(convention, str):
        check_choice("convention", convention, CONVENTIONS)
        convention = CONVENTIONS[convention]

    def adapted(t, x, *label, **conditions):
        time = convention.time_scale * convention.time(check_t(t, x))
        v = model(*((x, time) if convention.x_first else (time, x)), *label, **conditions)
        return convention.sign * check_velocity(v, x)

    adapted.num_classes = getattr(model, "num_classes", None)
    return adapted
