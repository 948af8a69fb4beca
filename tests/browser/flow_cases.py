"""Random cases for the page's engine, fmlib's answers to them, and the comparison that an engine must pass."""

import json

import torch

from fmlib import EmpiricalDistribution, GaussianMixture, rectified_flow_path, ve_path, vp_cosine_path, vp_linear_path
from fmlib.page.scripts import join

PATHS = {
    "rectified_flow": rectified_flow_path,
    "vp_cosine": vp_cosine_path,
    "vp_linear": vp_linear_path,
    "ve": ve_path,
}
QUANTITIES = {
    "logProb": "log_prob",
    "score": "score",
    "velocity": "velocity",
    "posteriorMeanX1": "posterior_mean_x1",
    "posteriorMeanX0": "posterior_mean_x0",
}
TOLERANCE = 1e-9

# What a page does with a list of cases: every quantity of each. `out` is used in every second case.
ANSWER = """(flow, cases) => cases.map(({ mixture, path, t, x }, i) => {
  const checked = flow.checkMixture(mixture);
  const way = flow.makePath(path);
  const points = Float64Array.from(x);
  const n = x.length / mixture.means[0].length;
  const answer = {};
  for (const name of ["logProb", "score", "velocity", "posteriorMeanX1", "posteriorMeanX0"]) {
    const out = i % 2 ? new Float64Array(name === "logProb" ? n : x.length) : undefined;
    answer[name] = [...flow[name](checked, way, t, points, out)];
    if (out && String(out) !== String(answer[name])) throw new Error(`${name} did not write to out`);
  }
  return answer;
})"""


def as_json(mixture: GaussianMixture) -> dict:
    return {"means": mixture.means.tolist(), "stds": mixture.stds.tolist(), "weights": mixture.weights.tolist()}


def random_mixture(g: torch.Generator, d: int, k: int, data: bool = False) -> GaussianMixture:
    """K components in [-2, 2]^d. data: all stds are 0. Otherwise one weight of several is 0, and few are alike."""
    draw = lambda *shape: torch.rand(*shape, dtype=torch.float64, generator=g)
    means = 4 * draw(k, d) - 2
    if data:
        return EmpiricalDistribution(means)
    weights = draw(k) ** 3
    weights[1:2] = 0
    return GaussianMixture(means, 0.05 + 0.6 * draw(k), weights)


def random_cases(count: int, seed: int = 0) -> list[dict]:
    """Mixtures of 1 to 200 components in 1 or 2 dimensions, on every path, at times in [0, 1], every fifth at an end;
    every seventh is a data set, where p_t has a density. x: six points of p_t, and two anywhere."""
    g = torch.Generator().manual_seed(seed)
    cases = []
    for i in range(count):
        name, d = list(PATHS)[i % 4], 1 + (i // 4) % 2
        path, t = PATHS[name](), [0.0, 1.0][(i // 20) % 2] if i % 5 == 0 else float(torch.rand((), generator=g))
        data = i % 7 == 0 and (t < 1 or name == "ve")
        k = [1, 2, 3, 8, 30, 200][int(6 * torch.rand((), generator=g))]
        mixture = random_mixture(g, d, k, data)
        x0 = torch.randn(6, d, dtype=torch.float64, generator=g)
        x = torch.cat([path.sample_xt(t, x0, mixture.sample(6, g)), 8 * torch.rand(2, d, generator=g).double() - 4])
        want = {name: getattr(mixture, method)(path, t, x) for name, method in QUANTITIES.items()}
        cases.append({"mixture": mixture, "path": name, "t": t, "x": x, "want": want})
    return cases


def for_page(cases: list[dict]) -> list[dict]:
    """The same as JSON, without fmlib's answers."""
    kept = [{k: plain(v) for k, v in case.items() if k not in ("mixture", "want")} for case in cases]
    return [{**rest, "mixture": as_json(case["mixture"])} for case, rest in zip(cases, kept, strict=True)]


def plain(value):
    return value.flatten().tolist() if isinstance(value, torch.Tensor) else value


def difference(got, want: torch.Tensor) -> float:
    """The largest difference, relative to the largest number of the answer.

    Not number by number: a posterior mean near 0 is a sum of terms that cancel, and its rounding error is that of the
    terms. An answer of zeros must be met exactly, and what is not a number differs by infinity.
    """
    got, scale = torch.tensor(got, dtype=torch.float64), float(want.abs().max())
    assert got.shape == (want.numel(),)
    error = float((got - want.flatten()).abs().max())
    if error == 0:
        return 0.0
    return error / scale if scale and error == error else float("inf")


def worst(answers: list[dict], cases: list[dict]) -> dict[str, float]:
    """The largest difference over all cases, for each quantity."""
    most = dict.fromkeys(QUANTITIES, 0.0)
    for case, answer in zip(cases, answers, strict=True):
        for name in QUANTITIES:
            most[name] = max(most[name], difference(answer[name], case["want"][name]))
    return most


def check_closed_forms(answers: list[dict], cases: list[dict]) -> None:
    """AssertionError unless every answer agrees with fmlib's at 1e-9."""
    most = worst(answers, cases)
    assert max(most.values()) <= TOLERANCE, most


TEXT = join("flow")


def ask(page, body: str, argument=None, text: str = TEXT):
    """body(flow, argument) in the page, where flow is the module of this text. Both ways as one text of JSON, NaN and
    infinity included: number by number the thousands of them would take longer than all the work."""
    return json.loads(
        page.evaluate(
            f"""async (text) => {{
              const flow = await import(URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }})));
              const answer = await ({body})(flow, {json.dumps(argument)});
              const named = (_, v) => (typeof v === "number" && !Number.isFinite(v) ? `@${{v}}` : v);
              return (JSON.stringify(answer, named) ?? "null").replace(/"@(NaN|-?Infinity)"/g, "$1");
            }}""",
            text,
        )
    )


def changed(*pairs: tuple[str, str]) -> str:
    """A wrong engine: the text with each first part, which must be there once, replaced."""
    text = TEXT
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def mixture_2d(k: int = 5, seed: int = 3, data: bool = False) -> GaussianMixture:
    return random_mixture(torch.Generator().manual_seed(seed), 2, k, data)
