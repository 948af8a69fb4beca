"""What each layer of the lab computes and shows, against fmlib, and what its controls change."""

import json
import re

import pytest
import torch
from flow_cases import ask
from lab_page import ON_A_LINE, html, middle, picture, show, value

from fmlib import (
    GaussianMixture,
    guided,
    midpoint_sampler,
    rectified_flow_path,
    rk4_sampler,
    shift_grid,
    three_gaussians,
)
from fmlib.page.lab import AT_PROBE, LAYERS, as_json
from fmlib.page.scripts import join

pytestmark = pytest.mark.usefixtures("one_thread")
PATH = rectified_flow_path()
MIXTURE = three_gaussians()
LINE = GaussianMixture(torch.tensor([[-2.0], [1.0]], dtype=torch.float64), torch.tensor([0.3, 0.4]).double())
STATE = {
    "points": 0, "t": 0.6, "path": "rectified_flow", "steps": 8, "solver": "midpoint", "shift": 1, "noise": 0,
    "corrected": True, "condition": [], "guidance_scale": 1, "added": "none", "strength": 0, "probe": [0.4, -0.3],
    "until": 1, "box": None, "launched": [], "ghost": None, "layers": [],
}  # fmt: skip


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def words(page) -> str:
    page.wait_for_timeout(80)
    return page.locator(".fm-readout").inner_text()


# --- what is computed: the module itself, in a page


def scene(tab, body: str, **state):
    """body(scene): the scene shows the state."""
    given = json.dumps({**STATE, "mixture": as_json(MIXTURE), **state})
    begin = f"""(flow) => {{
      const scene = new flow.Scene([-3, 3, -3, 3], {{ particles: 50, trajectories: 20, pairs: 5 }});
      scene.set({given}); return ({body})(scene); }}"""
    return ask(tab, begin, None, join("lab_scene"))


def field_at(tab, points, **state):
    body = f"(scene) => [...scene.field(scene.state.t, Float64Array.from({json.dumps(points.flatten().tolist())}))]"
    return double(scene(tab, body, **state)).reshape(points.shape)


def label_field(k):
    """The fields of class k (label 0) and of all (label 1), as `guided` takes them."""
    one = GaussianMixture(MIXTURE.means[k : k + 1], MIXTURE.stds[k : k + 1])
    both = (one, MIXTURE)
    return lambda t, x, label: torch.stack([m.velocity(PATH, t, x) for m in both])[label, torch.arange(len(x))]


def test_coupled_pairs_end_where_the_flow_ends(tab):
    made, drawn = (
        [
            double(x).reshape(-1, 2)
            for x in scene(tab, f"(s) => {{ const p = s.{how}(20); return [[...p.x0], [...p.x1]] }}")
        ]
        for how in ("coupled", "independent")
    )
    ends = rk4_sampler(lambda t, x: MIXTURE.velocity(PATH, t, x), made[0], steps=30)
    assert (made[1] - ends).abs().max() < 1e-6
    assert torch.equal(made[0], drawn[0]) and (drawn[1] - ends).abs().max() > 1  # the wrong twin


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_the_guided_field_is_fmlibs(tab, scale):
    x = double([[0.3, -0.4], [-1.0, 1.1], [2.0, 0.2]])
    got = field_at(tab, x, condition=[1], guidance_scale=scale)
    right = guided(label_field(1), 0, scale, null_label=1)(torch.full((3,), 0.6).double(), x.double())
    twin = guided(label_field(2), 0, scale + 0.5, null_label=1)(torch.full((3,), 0.6).double(), x.double())
    assert torch.allclose(got, right.double(), atol=1e-6) and not torch.allclose(got, twin.double(), atol=1e-2)


def test_what_is_added_is_added(tab):
    x = double([[0.3, -0.4], [-1.0, 1.1]])
    u, s = MIXTURE.velocity(PATH, 0.6, x), MIXTURE.score(PATH, 0.6, x)
    turned = torch.stack([-s[:, 1], s[:, 0]], 1)
    got = field_at(tab, x, added="turned score", strength=1.5)
    assert torch.allclose(got, u + 1.5 * turned, atol=1e-6) and not torch.allclose(got, u - 1.5 * turned, atol=1e-2)


def test_the_tilted_density(tab):
    """p(x | c)^s p(x)^(1 - s) on a grid, up to its scale. Wrong twin: s and 1 - s exchanged."""
    xs = double([-1.5, 0.0, 0.7])
    body = "(scene) => [...scene.tilted(0.6, Float64Array.of(-1.5, 0, 0.7), Float64Array.of(-0.5, 0.8))]"
    got = double(scene(tab, body, condition=[1], guidance_scale=3)).log()
    x = torch.stack([xs.repeat(2), double([-0.5, 0.8]).repeat_interleave(3)], 1)
    one = GaussianMixture(MIXTURE.means[1:2].double(), MIXTURE.stds[1:2].double()).log_prob(PATH, 0.6, x)
    all_ = MIXTURE.log_prob(PATH, 0.6, x)
    off = lambda log: (got - log - (got - log).mean()).abs().max()
    assert off(3 * one - 2 * all_) < 1e-5 < 1e-1 < off(3 * all_ - 2 * one)


def test_the_cloud_follows_the_shifted_grid(tab):
    """Its start is noise of its own, so that fmlib's sampler is run from there. Wrong twin: the uniform grid."""
    body = "(scene) => { const { ts, states } = scene.cloud(); return [[...ts], [...states[0]], [...states[8]]]; }"
    ts, start, end = (double(part) for part in scene(tab, body, shift=3))
    assert torch.allclose(ts, shift_grid(3)(8).double(), atol=1e-12)
    run = lambda grid: midpoint_sampler(
        lambda t, x: MIXTURE.velocity(PATH, t, x), start.reshape(-1, 2), steps=8, grid=grid
    )
    assert torch.allclose(run(shift_grid(3)), end.reshape(-1, 2), atol=1e-5)
    assert not torch.allclose(run(shift_grid(1)), end.reshape(-1, 2), atol=1e-3)


def test_the_error_at_the_end_is_the_median(tab):
    body = """(scene) => [scene.endError(), [...scene.exact().states.at(-1)], [...scene.cloud().states.at(-1)]]"""
    error, exact, made = scene(tab, body, solver="euler")
    off = (double(exact).reshape(-1, 2) - double(made).reshape(-1, 2)[:20]).norm(dim=1)
    assert error == pytest.approx(off.sort().values[10].item(), rel=1e-9) and error > 0.01


@pytest.mark.parametrize("d", [1, 2])
def test_points_are_drawn_once_from_the_mixture(tab, d):
    """More points begin with the same ones; the field and the density are theirs. Wrong twin: the mixture's own."""
    mixture = LINE if d == 1 else MIXTURE
    body = """(scene) => { const { points, field, d } = scene, x = Float64Array.of(0.3, -0.4);
      const density = scene.density(0.6, x, d === 2 ? x : null);
      return [[...points], [...field(0.6, x, new Float64Array(2))], [...density]]; }"""
    run = lambda n: [double(part) for part in scene(tab, body, points=n, mixture=as_json(mixture), probe=None)]
    few, many = run(5)[0], run(1000)[0]
    assert torch.equal(many[: len(few)], few) and len(many) == 1000 * d
    many = many.reshape(1000, d)
    assert (many.mean(0) - mixture.sample(100_000).double().mean(0)).norm() < 5 * 2 / 1000**0.5
    points, u, p = run(20)
    finite = GaussianMixture(points.reshape(-1, d), torch.full((20,), 1e-6).double())
    x = double([[0.3, -0.4]]) if d == 2 else double([[0.3], [-0.4]])
    grid = x if d == 1 else torch.cartesian_prod(x[0], x[0]).flip(1)
    field = lambda of: of.velocity(PATH, 0.6, x).flatten()
    density = lambda of: of.log_prob(PATH, 0.6, grid).exp()
    assert torch.allclose(u, field(finite), atol=1e-6) and not torch.allclose(u, field(mixture).double(), atol=1e-2)
    # the picture's points are as wide as one of its cells
    assert torch.allclose(p, density(finite), rtol=0.1, atol=2e-3)
    assert not torch.allclose(p, density(mixture).double(), rtol=0.1, atol=2e-3)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4", "ddim"])
@pytest.mark.parametrize("name", ["rectified_flow", "vp_cosine", "vp_linear", "ve"])
def test_every_solver_ends_in_the_points(tab, solver, name):
    """Also those that ask the field at the end, where points have none. Wrong twin: new samples of the mixture."""
    body = "(scene) => [scene.nearPoints(), scene.endError(), [...scene.points], [...scene.cloud().states.at(-1)]]"
    near, error, points, ends = scene(tab, body, points=10, solver=solver, steps=100, path=name)
    apart = torch.cdist(double(ends).reshape(-1, 2), double(points).reshape(-1, 2)).min(1).values
    assert near[0] == pytest.approx((apart < 0.05).double().mean().item(), abs=1e-9)
    assert near[0] > 0.95 and near[1] < 0.2 and error < 0.05


@pytest.mark.parametrize(("solver", "steps"), [("rk4", 2), ("euler", 3)])
def test_solvers_are_compared_at_the_same_number_of_calls(tab, solver, steps):
    """Each as if it were the lab's own with so many steps as the calls allow. Wrong twin: the same number of steps."""
    body = "(scene) => sameCalls(scene)"
    got = dict(compared(tab, body, solver=solver, steps=steps))
    per_step = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4, "ddim": 1}
    calls = steps * per_step[solver]
    assert list(got) == [name for name, cost in per_step.items() if cost <= calls]
    own = {name: scene(tab, "(scene) => scene.endError()", solver=name, steps=calls // per_step[name]) for name in got}
    assert got == pytest.approx(own, rel=1e-9)
    twin = {name: scene(tab, "(scene) => scene.endError()", solver=name, steps=steps) for name in got}
    assert got != pytest.approx(twin, rel=1e-2)


def test_nothing_is_solved_again_when_only_time_moves(tab):
    body = """(scene) => { const first = sameCalls(scene); scene.set({ ...scene.state, t: 0.1 });
      const same = sameCalls(scene) === first; scene.set({ ...scene.state, steps: 9 });
      return [same, sameCalls(scene) === first]; }"""
    assert compared(tab, body) == [True, False]


def test_a_crowd_is_followed_coarsely_only_while_a_hand_moves(tab):
    crowd = GaussianMixture(torch.linspace(-2, 2, 60).double()[:, None].repeat(1, 2), torch.full((60,), 0.2).double())
    body = """(scene) => { scene.hasty = true; const coarse = scene.exact().ts.length; scene.hasty = false;
      const fine = scene.exact().ts.length; scene.hasty = true; return [coarse, fine, scene.exact().ts.length]; }"""
    assert scene(tab, body, mixture=as_json(crowd)) == [9, 31, 31]
    assert scene(tab, body) == [31, 31, 31] == scene(tab, body, mixture=as_json(crowd), points=60)


def compared(tab, body: str, mixture=MIXTURE, limits=(-3, 3, -3, 3), **state):
    """body(scene) in the page, with sameCalls and tiltedSpread in reach."""
    whole = join("lab")
    end = whole.index("const { render } = $lab;")
    text = whole[:end] + "export const { Scene } = $lab_scene, { sameCalls, tiltedSpread } = $lab_compare;"
    given = json.dumps({**STATE, "mixture": as_json(mixture), **state})
    begin = f"""({{ Scene, sameCalls, tiltedSpread }}) => {{
      const scene = new Scene({list(limits)}, {{ particles: 2000, trajectories: 20, pairs: 5 }});
      scene.set({given}); return ({body})(scene); }}"""
    return ask(tab, begin, None, text)


@pytest.mark.parametrize("name", ["rectified_flow", "vp_linear"])
@pytest.mark.parametrize("scale", [2, 3])
def test_guidance_makes_another_width_than_the_tilted_density(tab, name, scale):
    """Centred Gaussians in one dimension, all N(0, S^2), the class N(0, q^2): guidance makes S^(1-s) q^s, the tilted
    density has (s / q^2 + (1 - s) / S^2)^(-1/2). Wrong twin: the two exchanged."""
    big, small = 1.2, 0.5
    both = GaussianMixture(double([[0.0], [0.0]]), double([big, small]), double([1.0, 1e-6]))
    state = {"condition": [1], "guidance_scale": scale, "solver": "rk4", "steps": 200, "probe": None, "path": name}
    body = "(scene) => [scene.spreads()[0] / spread(scene.noise(2000)), tiltedSpread(scene)]"
    body = body.replace(
        "spread(scene.noise(2000))", "Math.sqrt(scene.noise(2000).reduce((s, x) => s + x * x, 0) / 2000)"
    )
    made, tilted = compared(tab, body, mixture=both, limits=(-0.06, 1.06, -4, 4), **state)
    want = big ** (1 - scale) * small**scale, (scale / small**2 + (1 - scale) / big**2) ** -0.5
    assert (made, tilted) == pytest.approx(want, rel=0.01) and (tilted, made) != pytest.approx(want, rel=0.2)


@pytest.mark.parametrize("std", [0.03, 0.3, 1.0])
@pytest.mark.parametrize("parts", [[0], [0, 1]])
def test_the_width_of_the_tilted_density_is_seen_on_the_grid(tab, std, parts):
    """At scale 1 it is that of the class, however narrow or far apart. Wrong twin: at scale 0 it is that of all."""
    mixture = GaussianMixture(double([[-2.0, 1], [2, 0.3], [0, 0]]), double([std, std, 1.5]), double([0.3, 0.01, 0.69]))
    w, m = mixture.weights[parts] / mixture.weights[parts].sum(), mixture.means[parts]
    want = (w @ ((m - w @ m).square().sum(1) + 2 * std**2)).sqrt().item()
    got = lambda scale: compared(tab, "tiltedSpread", mixture=mixture, condition=parts, guidance_scale=scale)
    assert got(1) == pytest.approx(want, rel=0.01) and got(0) != pytest.approx(want, rel=0.1)


# --- what is said


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"[-+]?\d+\.?\d*", text)]


@pytest.mark.parametrize("d", [1, 2])
def test_a_box_keeps_its_balance_and_a_wrong_field_does_not(page, d):
    mixture, controls = (LINE, ON_A_LINE) if d == 1 else (MIXTURE, ["t", "added", "strength"])
    show(page, mixture=mixture, layers=["density", "box"], controls=controls, t=0.5)
    share, rate, flux = numbers(words(page))
    torch.manual_seed(0)
    xt = 0.5 * torch.randn(400_000, d, dtype=torch.float64) + 0.5 * mixture.sample(400_000).double()
    inside = ((xt > -0.8) & (xt < 0.8)).all(1).double()
    assert share / 100 == pytest.approx(inside.mean().item(), abs=5 * (0.25 / 400_000) ** 0.5)
    assert rate == pytest.approx(flux, abs=0.0011) and abs(rate) > 0.05 and "differ" not in words(page)
    page.evaluate("model.tell('added', 'constant drift'); model.tell('strength', 1)")
    _, still, off = numbers(words(page))
    assert still == rate and abs(off - flux) > 0.01 and "They differ" in words(page)
    assert page.errors == []


def test_a_box_is_moved_and_made_larger(page):
    show(page, layers=["box"], controls=["t"])
    for kind, dx, dy in (("box", 40, -20), ("corner", 30, -30)):
        x, y = middle(page, f".fm-handle.fm-{kind}")
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + dx, y + dy, steps=3)
        page.mouse.up()
    left, right, bottom, top = value(page, "box")
    assert left > -0.8 and bottom > -0.8 and right - left > 1.7 and top - bottom > 1.7
    page.locator(".fm-handle.fm-corner").focus()
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    left, right, _, _ = value(page, "box")
    assert right - left == pytest.approx(0.1)  # never turned inside out
    page.get_by_role("button", name="reset").click()
    assert value(page, "box") == [-0.8, 0.8, -0.8, 0.8] and page.errors == []


def test_quantities_step_and_jump_are_fmlibs(page):
    x, t = double([[0.5, 0.5]]), 0.3
    show(page, layers=["quantities"], t=t)
    x1, x0 = MIXTURE.posterior_mean_x1(PATH, t, x)[0], MIXTURE.posterior_mean_x0(PATH, t, x)[0]
    right = torch.cat([x1, x0, x1 - x0, MIXTURE.score(PATH, t, x)[0], t * x0 - (1 - t) * x1]).double()
    got = double([n for pair in re.findall(r"\((.*?)\)", words(page)) for n in numbers(pair)])
    assert torch.allclose(got, right, atol=0.006) and not torch.allclose(got, right.flip(0), atol=0.1)

    u = lambda t, x: MIXTURE.velocity(PATH, t, x)
    ends = midpoint_sampler(u, x, steps=400, t_start=t, t_end=0.8)[0], (x + 0.5 * u(t, x))[0]
    page.evaluate("model.tell('layers', ['jump']); model.tell('until', 0.8)")
    got = [double(numbers(pair)) for pair in re.findall(r"\((.*?)\)", words(page))]
    assert all(torch.allclose(a, b.double(), atol=0.006) for a, b in zip(got, ends, strict=True))
    assert (ends[0] - ends[1]).norm() == pytest.approx(numbers(words(page))[-1], abs=0.006)

    page.evaluate("model.tell('layers', ['stages']); model.tell('solver', 'euler'); model.tell('steps', 2)")
    size, calls, miss = numbers(words(page))
    assert (size, calls) == (0.5, 1) and miss == pytest.approx((ends[0] - ends[1]).norm().item(), rel=0.06)
    page.evaluate("model.tell('solver', 'rk4')")
    assert numbers(words(page).replace("rk4", ""))[1] == 4 and numbers(words(page).replace("rk4", ""))[2] < miss / 5


def test_the_readout_of_a_solver_counts_its_calls(page):
    """What is said of the others, with the control: the line of the solver that runs is its own error."""
    show(page, layers=["trajectories"], controls=["steps"], steps=8)
    assert "With these" not in words(page)
    show(page, layers=["trajectories"], controls=["steps", "solver"])
    errors = {}
    for solver, steps, calls in (("euler", 8, 8), ("midpoint", 4, 8), ("rk4", 2, 8), ("euler", 50, 50)):
        page.evaluate(f"model.tell('solver', '{solver}'); model.tell('steps', {steps})")
        own, others = words(page).split("\n")
        said = numbers(own)
        assert said[0] == calls and f"{solver} {said[-1]:.3f}" in others
        assert re.fullmatch(rf"With these {calls} evaluations: euler .*, ddim .*\d\.", others)
        errors[solver, steps] = said[-1]
    assert errors["euler", 50] < errors["euler", 8] / 3 and errors["midpoint", 4] < errors["euler", 8]


def test_a_forgotten_correction_spreads_too_far(page):
    """With it the particles spread as the data do. Each layer has a line of its own."""
    state = {"noise": 1.0, "steps": 100, "particles": 2000}
    show(page, layers=["trajectories", "particles"], controls=["noise", "correction"], **state)
    w, m = MIXTURE.weights, MIXTURE.means
    data = w @ ((m - w @ m).square().sum(1) + 2 * MIXTURE.stds.square())
    button = page.get_by_role("button", name="forget the correction")
    assert button.get_attribute("aria-pressed") == "false"
    calls, spread = words(page).split("\n")
    made, exact = numbers(spread.split(" by ", 1)[1])[0], numbers(spread)[-1]
    assert numbers(calls)[0] == 100 and exact == pytest.approx(data.sqrt().item(), abs=0.006)
    assert made == pytest.approx(exact, rel=0.05)
    button.click()
    off = words(page).split("\n")[1]
    assert value(page, "corrected") is False and button.get_attribute("aria-pressed") == "true"
    assert "without its correction" in off and numbers(off.split(" by ", 1)[1])[0] > 1.15 * exact
    page.get_by_role("button", name="undo").click()
    assert value(page, "corrected") is True and words(page).split("\n")[1] == spread
    page.evaluate("model.tell('noise', 0)")
    assert "correction" not in words(page) and page.errors == []


def test_the_points_are_on_a_slider_and_said(page):
    show(page, layers=["density", "particles"], controls=["t", "points"], t=1.0, steps=16, solver="midpoint")
    whole, slider = picture(page), page.get_by_role("slider", name="training points")
    assert slider.get_attribute("aria-valuetext") == "the distribution" and words(page) == ""
    slider.fill("3")
    said = words(page)
    count, made, near, fresh = numbers(said.replace(".", " ", 0))
    assert value(page, "points") == count == 3 and slider.get_attribute("aria-valuetext") == "3 training points"
    assert near == 0.05 and made > 95 > 20 > fresh
    few = picture(page)
    slider.fill("11")
    count, _, _, fresh_of_many = numbers(words(page))
    assert count == 1000 and fresh_of_many > 50 and len({whole, few, picture(page)}) == 3
    page.get_by_role("button", name="undo").click()
    page.get_by_role("button", name="undo").click()
    assert value(page, "points") == 0 and picture(page) == whole
    page.evaluate("model.tell('points', 1001)")
    assert "points must be a finite number from 0 to 1000, got 1001" in page.locator(".fm-refused").inner_text()
    page.evaluate("model.tell('points', 1.5)")
    assert "points must be a whole number" in page.locator(".fm-refused").inner_text() and page.errors == []


def test_the_three_velocities_of_guidance_are_said(page):
    """Wrong twin: another scale. Without a class there is one."""
    x, t = double([[0.4, -0.3]]), 0.4
    show(
        page, layers=["guidance"], controls=["condition", "guidance_scale"], t=t, probe=[0.4, -0.3], guidance_scale=2.5
    )
    none = MIXTURE.velocity(PATH, t, x)[0]
    assert torch.allclose(double(numbers(words(page))), none.double(), atol=0.006) and "with it" not in words(page)
    page.get_by_label("class").select_option("2")
    one = GaussianMixture(MIXTURE.means[1:2].double(), MIXTURE.stds[1:2].double()).velocity(PATH, t, x)[0]
    got = [double(numbers(pair)) for pair in re.findall(r"\((.*?)\)", words(page))]
    right = lambda s: [none.double(), one.double(), (none + s * (one - none)).double()]
    same = lambda s: all(torch.allclose(a, b, atol=0.006) for a, b in zip(got, right(s), strict=True))
    assert "at scale 2.50" in words(page) and same(2.5) and not same(2.4) and page.errors == []


def test_widths_are_said_with_the_tilted_density(page):
    show(page, layers=["tilted"], controls=["condition", "guidance_scale"], guidance_scale=3.0, steps=100)
    assert words(page) == ""
    page.get_by_label("class").select_option("1")
    scale, made, tilted = numbers(words(page))
    assert scale == 3 and 0 < made != tilted > 0 and "the tilted density has" in words(page)
    page.evaluate("model.tell('guidance_scale', 0)")  # then both are the data
    _, made, tilted = numbers(words(page))
    w, m = MIXTURE.weights, MIXTURE.means
    data = (w @ ((m - w @ m).square().sum(1) + 2 * MIXTURE.stds.square())).sqrt().item()
    assert tilted == pytest.approx(data, abs=0.01) and made == pytest.approx(data, rel=0.1) and page.errors == []


def test_the_error_of_one_prediction_is_said_as_that_of_the_others(page):
    show(page, layers=["quantities"], controls=["t", "predicted", "error"], t=0.25, path="rectified_flow")
    before = picture(page)
    assert "An error" not in words(page)
    page.get_by_role("slider", name="error").fill("0.1")
    assert value(page, "error") == 0.1 and picture(page) != before
    page.get_by_label("predict").select_option("epsilon")
    said = "An error of 0.10 in ε is 0.40 in u, 0.30 in x₁, 0.13 in the score, 0.25 in v of diffusion."
    twin = "An error of 0.10 in ε is 0.40 in u, 0.03 in x₁"  # alpha and sigma exchanged
    assert value(page, "predicted") == "epsilon" and said in words(page) and twin not in words(page)
    page.evaluate("model.tell('t', 0)")
    assert "without limit in u, without limit in x₁, 0.10 in the score" in words(page)
    page.evaluate("model.tell('error', 1.2)")
    assert "error must be a finite number from 0 to 1, got 1.2" in page.locator(".fm-refused").inner_text()
    page.evaluate("model.tell('error', 0.1); model.tell('predicted', 'noise')")
    assert "predicted must be one of velocity, epsilon" in page.locator(".fm-refused").inner_text()
    assert page.errors == []


# --- what is drawn


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_is_drawn(page, layer, d):
    mixture, controls = (LINE, ON_A_LINE) if d == 1 else (MIXTURE, ["t"])
    options = {"condition": [0], "guidance_scale": 2.0, "t": 0.4, "probe": [0.3] * d, "box": [-0.7, 0.9] * d}
    show(page, mixture=mixture, layers=[], controls=controls, **options)
    empty = picture(page)
    page.evaluate("layer => model.tell('layers', [layer])", layer)
    assert picture(page) != empty
    assert page.locator(".fm-handle.fm-probe").count() == (layer in AT_PROBE)
    page.evaluate("model.tell('layers', [])")
    assert picture(page) == empty and page.errors == []


def test_a_ghost_stays_behind(page):
    show(page, layers=["trajectories", "particles"], controls=["t", "steps", "ghost"], steps=16)
    alone = picture(page)
    page.get_by_role("button", name="leave a ghost").click()
    ghost = value(page, "ghost")
    assert ghost["steps"] == 16 and not {"t", "layers", "ghost"} & ghost.keys()
    page.get_by_role("slider", name="steps").fill("0")
    beside = picture(page)
    page.get_by_role("button", name="remove the ghost").click()
    assert value(page, "ghost") is None and picture(page) != beside
    page.get_by_role("slider", name="steps").fill("7")
    assert value(page, "steps") == 16 and picture(page) == alone and page.errors == []


# --- what changes the data


def test_a_stroke_becomes_the_data(page):
    show(page, layers=["density"], controls=["mixture", "draw"])
    box = page.locator(".fm-lab canvas").bounding_box()
    at = lambda across, down: (box["x"] + across * box["width"], box["y"] + down * box["height"])
    page.get_by_role("button", name="draw").click()

    def stroke(begin, end):
        page.mouse.move(*at(*begin))
        page.mouse.down()
        page.mouse.move(*at(*end), steps=12)
        page.mouse.up()
        page.wait_for_timeout(60)
        return value(page, "mixture")["means"]

    first = double(stroke((0.2, 0.5), (0.8, 0.5)))
    apart = first.diff(dim=0).norm(dim=1)
    assert len(first) > 15 and torch.allclose(apart, torch.full_like(apart, 0.12), atol=1e-6)
    both = stroke((0.5, 0.2), (0.5, 0.4))
    assert both[: len(first)] == first.tolist() and len(both) > len(first) + 3
    page.get_by_role("button", name="undo").click()
    assert value(page, "mixture")["means"] == first.tolist()
    page.get_by_role("button", name="draw").click()  # off: a stroke is no stroke
    assert stroke((0.2, 0.3), (0.8, 0.3)) == first.tolist()
    page.get_by_role("button", name="reset").click()
    assert value(page, "mixture") == json.loads(json.dumps(as_json(MIXTURE))) and page.errors == []


def test_presets_are_mixtures_and_the_first_data_come_back(page):
    show(page, layers=["density"], controls=["presets"])
    begin = value(page, "mixture")
    chosen = page.get_by_label("data")
    names = chosen.locator("option").all_inner_texts()
    assert names[0] == "this one" and len(names) >= 6
    seen = set()
    for name in names[1:]:
        chosen.select_option(name)
        mixture = value(page, "mixture")
        assert abs(sum(mixture["weights"]) - 1) < 1e-9 and max(abs(v) for m in mixture["means"] for v in m) < 3
        seen.add(picture(page))
    chosen.select_option("this one")
    assert len(seen) == len(names) - 1 and value(page, "mixture") == begin and page.errors == []


def test_a_weight_is_dragged(page):
    show(page, layers=["density"], controls=["mixture", "weights"])
    begin = value(page, "mixture")["weights"]
    x, y = middle(page, ".fm-handle.fm-weight >> nth=0")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 50, y, steps=4)
    page.mouse.up()
    now = value(page, "mixture")["weights"]
    assert now[0] > begin[0] + 0.05 and sum(now) == pytest.approx(1)
    assert now[1] / now[2] == pytest.approx(begin[1] / begin[2])
    assert page.locator(".fm-handle.fm-weight").count() == 3


def test_a_link_leads_back_to_the_picture(page):
    """To three digits, as a link should be short. Wrong twin: the same page without it."""
    text = html(layers=["density", "jump"], controls=["t", "until"])
    show(page, text=text)
    page.get_by_role("slider", name="t", exact=True).fill("0.2")
    before = words(page)
    page.get_by_role("button", name="link").click()
    fragment = page.evaluate("location.hash")
    assert fragment.startswith("#lab-") and "address" in page.locator(".fm-spoken").inner_text()
    for end, same in ((fragment, True), ("", False)):
        page.goto("about:blank")
        show(page, end, text=text)
        assert (words(page) == before) is same
        assert (page.evaluate("document.querySelector('.fm-lab').dataset.t") == "0.2") is same
