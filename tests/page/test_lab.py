"""The lab from Python's side: what it takes, what it refuses, and what it sends to the page."""

import pytest
import torch
import traitlets

from fmlib import GaussianMixture, eight_gaussians, three_gaussians
from fmlib.page import FlowLab
from fmlib.page.lab import CONTROLS, LAYERS, PATHS, _normalised, around, as_json, mixture_from_json

ALT = "three clumps"
ALONE = [name for name in CONTROLS if name != "match"]  # of a row
LINE = GaussianMixture(torch.tensor([[-2.0], [1.0]]), torch.tensor([0.3, 0.4]))


def test_what_it_sends_is_small_json():
    lab = FlowLab(three_gaussians(), ALT, layers=LAYERS, controls=ALONE, tour=[{"caption": "Drag t.", "t": 0.2}])
    state = lab.get_state()
    assert (
        state["mixture"] == as_json(three_gaussians())
        and state["probe"] == [0.5, 0.5]
        and state["path"] == "rectified_flow"
    )
    assert state["_meta"]["tour"] == [{"caption": "Drag t.", "t": 0.2}] and state["_meta"]["limits"][0] < -2.5
    assert len(str({k: v for k, v in state.items() if k != "_esm"})) < 3000


def test_what_the_page_sends_comes_back_as_a_mixture():
    lab = FlowLab(three_gaussians(), ALT)
    moved = as_json(eight_gaussians())
    lab.set_state({"mixture": moved, "t": 0.25, "path": "ve", "probe": [1, 2.5]})
    assert isinstance(lab.mixture, GaussianMixture) and torch.equal(lab.mixture.means, eight_gaussians().means.double())
    assert (lab.t, lab.path, lab.probe, lab.flow_path.name) == (0.25, "ve", [1.0, 2.5], "ve")
    back = mixture_from_json(as_json(lab.mixture))
    assert all(torch.equal(getattr(back, n), getattr(lab.mixture, n)) for n in ("means", "stds", "weights"))


@pytest.fixture
def shown(monkeypatch):
    """shown(lab): what it displays, (the still, the data of its view, the view's options)."""
    calls = []
    monkeypatch.setattr("fmlib.page.lab.display", lambda what, **options: calls.append((what, options)))

    def of(lab):
        calls.clear()
        lab._ipython_display_()
        (still, _), (view, options) = calls
        return still, view, options

    return of


def test_the_still_is_an_output_of_its_own_and_follows_the_state(shown):
    lab = FlowLab(three_gaussians(), ALT, t=0.0)
    still, view, options = shown(lab)
    assert still.alt == ALT and len(still.data) < 60_000
    assert view["text/plain"] == ALT and "application/vnd.jupyter.widget-view+json" in view and options["raw"]
    assert "image/png" not in view  # beside a stored widget it would be lost
    for name, value in (("t", 0.9), ("path", "vp_cosine"), ("mixture", eight_gaussians())):
        before = shown(lab)[0].data
        setattr(lab, name, value)
        assert shown(lab)[0].data != before


ROW = ["rectified_flow", "vp_cosine", "vp_linear", "ve"]


def test_a_row_of_paths(shown):
    lab = FlowLab(three_gaussians(), ALT, row=ROW[1:], controls=["t", "match"])
    state = lab.get_state()
    assert state["_meta"]["row"] == ROW[1:] and lab.path == "vp_cosine" and state["matched"] is False
    with pytest.raises(ValueError, match="path must be the first of the row, vp_cosine, got 've'|got ve"):
        lab.path = "ve"
    before = shown(lab)[0].data
    lab.t = 0.9
    assert shown(lab)[0].data != before
    assert FlowLab(three_gaussians(), ALT).get_state()["_meta"]["row"] == []


@pytest.mark.parametrize("name", ROW)
def test_a_normalised_path_keeps_its_ratio(name):
    """x_t / sqrt(alpha^2 + sigma^2), and its velocity by differences. Wrong twin: the path itself."""
    path, t = PATHS[name](), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    one = _normalised(path)
    assert torch.allclose(one.alpha(t) ** 2 + one.sigma(t) ** 2, torch.ones(3).double())
    assert torch.allclose(one.alpha(t) / one.sigma(t), path.alpha(t) / path.sigma(t))
    right = (one.alpha(t + 1e-6) - one.alpha(t - 1e-6)) / 2e-6
    assert torch.allclose(one.d_alpha(t), right, rtol=1e-5)
    assert torch.allclose(path.d_alpha(t), right, rtol=1e-5) == (name in ("vp_cosine", "vp_linear"))
    squares = one.sigma(t + 1e-6) ** 2 - one.sigma(t - 1e-6) ** 2
    assert torch.allclose(one.half_d_sigma_sq(t), squares / 4e-6, rtol=1e-5)
    assert torch.allclose(one.d_sigma(t) * one.sigma(t), one.half_d_sigma_sq(t))


def test_what_a_layer_needs_is_there():
    """A box and a probe to begin with; a ghost's mixture goes to the page as JSON."""
    lab = FlowLab(three_gaussians(), ALT, layers=["box", "jump"], ghost={"steps": 2, "mixture": eight_gaussians()})
    state = lab.get_state()
    assert state["box"] == [-0.8, 0.8, -0.8, 0.8] and state["probe"] == [0.5, 0.5]
    assert state["ghost"] == {"steps": 2, "mixture": as_json(eight_gaussians())}
    assert FlowLab(three_gaussians(), ALT, layers=["guidance"]).probe == [0.5, 0.5]
    assert (lab.predicted, lab.error) == ("velocity", 0.0)
    bare = FlowLab(three_gaussians(), ALT, layers=["density"])
    assert bare.box is None and bare.probe is None and bare.ghost is None


def test_one_dimension_is_a_line_over_t(shown):
    lab = FlowLab(LINE, ALT, layers=LAYERS)
    assert lab.probe == [0.5] and lab.get_state()["_meta"]["limits"][:2] == [-0.06, 1.06]
    before = shown(lab)[0].data
    lab.t = 0.1
    assert shown(lab)[0].data != before


def test_the_limits_show_data_and_noise():
    left, right, bottom, top = around(GaussianMixture(torch.tensor([[5.0, 0.0]]), torch.tensor(0.5)))
    assert left < -2.5 and right == pytest.approx(6.5) and bottom < -2.5 and top > 2.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mixture": "moons"}, TypeError, "mixture must be a GaussianMixture, got str"),
        ({"mixture": GaussianMixture(torch.zeros(2, 3), 1.0)}, ValueError, r"1 or 2 dimensions, got \[2, 3\]"),
        ({"alt": " "}, ValueError, "alt must describe the lab in words"),
        ({"controls": ["t", "colour"]}, ValueError, "controls must be one of t, points, .*got 'colour'"),
        ({"layers": ["fog"]}, traitlets.TraitError, "layers.*'fog'"),
        ({"t": 1.5}, ValueError, "t must be a finite number of at least 0 and at most 1, got 1.5"),
        ({"steps": 0}, traitlets.TraitError, "steps must be a whole number from 1 to 200, got 0"),
        ({"points": 1001}, traitlets.TraitError, "points must be a whole number from 0 to 1000, got 1001"),
        ({"corrected": "no"}, traitlets.TraitError, "corrected"),
        ({"solver": "magic"}, traitlets.TraitError, "magic"),
        ({"probe": [1.0, 2.0, 3.0]}, traitlets.TraitError, "probe must be one or two numbers or None"),
        ({"noise": -1.0}, ValueError, "noise must be a finite number of at least 0"),
        ({"until": 2}, ValueError, "until must be a finite number of at least 0 and at most 1, got 2"),
        ({"error": 1.5}, ValueError, "error must be a finite number of at least 0 and at most 1, got 1.5"),
        ({"predicted": "noise"}, traitlets.TraitError, "predicted.*velocity.*'noise'"),
        ({"shift": 0}, ValueError, "shift must be a finite number of at least 0.1"),
        ({"box": [1.0, 0.0, 0.0, 1.0]}, traitlets.TraitError, r"box must be \[low, high\] of each coordinate or None"),
        ({"box": [0.0, 1.0, 2.0]}, traitlets.TraitError, r"box must be \[low, high\]"),
        ({"ghost": {"stops": 2}}, ValueError, "ghost must be a dict with any of added, .*'stops'"),
        ({"condition": [-1]}, traitlets.TraitError, "condition"),
        ({"added": "wind"}, traitlets.TraitError, "wind"),
        ({"mixture": LINE, "controls": ["draw"]}, ValueError, "controls must not hold draw for data in one dimension"),
        ({"trajectories": 900}, ValueError, "trajectories must be at most particles, 500, got 900"),
        ({"particles": 0}, ValueError, "particles must be an integer of at least 1"),
        ({"tour": [{"t": 0.5}]}, ValueError, r"tour\[0\] must have a caption"),
        (
            {"tour": [{"caption": "a"}, {"caption": "b", "time": 1}]},
            ValueError,
            r"tour\[1\] must be a dict with any of added",
        ),
        ({"row": ["ve"]}, ValueError, r"row must be two to four different paths, got \['ve'\]"),
        ({"row": ["ve", "ve"]}, ValueError, r"row must be two to four different paths"),
        ({"row": ["ve", "edm"]}, ValueError, "row must be one of rectified_flow, .*got 'edm'"),
        ({"row": ROW, "layers": ["probe"]}, ValueError, "layers of a row must be one of density, .*got 'probe'"),
        ({"row": ROW, "controls": ["t", "noise"]}, ValueError, "controls of a row must be one of t, .*got 'noise'"),
        ({"row": ROW, "mixture": LINE}, ValueError, "row must be empty for data in one dimension"),
        ({"row": ROW, "path": "ve"}, ValueError, "path must be the first of the row, rectified_flow, got ve"),
        ({"controls": ["match"]}, ValueError, "controls must not hold match without a row"),
        ({"limits": (0, 1, 0, float("nan"))}, ValueError, "limits must be a finite number"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    given = {"mixture": three_gaussians(), "alt": ALT, **arguments}
    with pytest.raises(error, match=message):
        FlowLab(**given)


@pytest.mark.parametrize(
    "mixture",
    [
        "x",
        {"means": [[0, 0]]},
        {"means": [[0, float("nan")]], "stds": [1], "weights": [1]},
        {"means": [[0, 0]], "stds": [-1], "weights": [1]},
    ],
)
def test_a_damaged_state_from_the_page_is_refused(mixture):
    lab = FlowLab(three_gaussians(), ALT)
    with pytest.raises((ValueError, TypeError, traitlets.TraitError)):
        lab.set_state({"mixture": mixture})
    assert len(lab.mixture.means) == 3


def test_a_lab_opens_on_the_first_stop_of_its_tour():
    """A first caption speaks of what is seen. A trait of its own comes before it; wrong twin: the second stop."""
    stops = [{"caption": "One.", "t": 0.9, "steps": 3, "layers": ["pairs"]}, {"caption": "Two.", "t": 0.1, "steps": 5}]
    lab = FlowLab(three_gaussians(), ALT, tour=stops, steps=7)
    assert (lab.t, lab.steps, lab.layers) == (0.9, 7, ["pairs"]) and lab.t != stops[1]["t"]
    assert FlowLab(three_gaussians(), ALT).t == 0.5
