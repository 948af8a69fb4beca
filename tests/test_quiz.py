"""The checkers: each accepts other styles of a right answer, names each known mistake, and is not fooled."""

import math

import pytest
import torch

from fmlib import Pairs
from fmlib.quiz import EXERCISES, Exercise, check, examine, start

MISTAKES = [
    (name, message, answer)
    for name, exercise in EXERCISES.items()
    for message, answers in exercise.mistakes.items()
    for answer in (answers if isinstance(answers, list) else [answers])
]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_answer_is_right_and_nothing_is_nothing(name):
    assert examine(name, EXERCISES[name].right).state == "right"
    verdict = examine(name, lambda *arguments: None)
    assert (verdict.state, verdict.message) == ("empty", "Not attempted yet.")


@pytest.mark.parametrize("name, message, answer", MISTAKES, ids=[f"{n}-{m[:30]}" for n, m, _ in MISTAKES])
def test_each_mistake_is_named(name, message, answer):
    for _ in range(5):
        verdict = examine(name, answer)
        assert (verdict.state, verdict.message) == ("mistake", f"Not yet: {message}")


def other_loss(model, t, x0, x1):
    total = 0.0
    for i in range(len(t)):
        xt = x0[i] + t[i] * (x1[i] - x0[i])
        total = total + sum((model(t[i], xt[None])[0] - x1[i] + x0[i]) ** 2)
    return total / len(t)


def other_field(t, x, data):
    rows = []
    for point in x:
        density = torch.tensor([math.exp(-float((point - t * d).square().sum()) / (2 * (1 - t) ** 2)) for d in data])
        rows.append(sum(p / density.sum() * (d - point) / (1 - t) for p, d in zip(density, data, strict=True)))
    return torch.stack(rows)


def other_euler(model, x0, steps):
    ts = torch.linspace(0, 1, steps + 1, dtype=x0.dtype)
    x = x0.clone()
    for t, dt in zip(ts, ts.diff(), strict=False):
        x += dt * model(t, x)
    return x


def other_cosine(t, x0, x1):
    t = t.unsqueeze(1)
    xt = (1 - torch.sin(t * torch.pi / 2) ** 2).sqrt() * x0 + torch.sin(t * torch.pi / 2) * x1
    ut = torch.pi / 2 * (torch.cos(t * torch.pi / 2) * x1 - torch.cos(torch.pi / 2 * (1 - t)) * x0)
    return [xt, ut]


OTHER_STYLES = {
    "log_density_rate": lambda j: torch.tensor([-sum(m[i, i] for i in range(len(m))) for m in j]),
    "swirl": lambda x, s: s @ torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=s.dtype),
    "cfm_loss": other_loss,
    "marginal_field": other_field,
    "cosine_path": other_cosine,
    "marginal_sample": lambda path, t, m, s, z: (
        path.alpha(torch.tensor(t)) * m + torch.hypot(path.alpha(torch.tensor(t)) * s, path.sigma(torch.tensor(t))) * z
    ),
    "ema": lambda a, w, d: torch.lerp(w, a, d),
    "logit_normal": lambda z, m, s: 1 / (1 + torch.exp(-m - s * z)),
    "heun": lambda f, t, u, x: x + (u - t) / 2 * f(t, x) + (u - t) / 2 * f(u, x + (u - t) * f(t, x)),
    "euler_sampler": other_euler,
    "eps_to_v": lambda p, t, x, e: (
        (p.d_alpha(t) / p.alpha(t))[:, None] * x + (p.d_sigma(t) - p.sigma(t) * p.d_alpha(t) / p.alpha(t))[:, None] * e
    ),
    "x1_to_score": lambda p, t, x, x1: -((x - p.alpha(t)[:, None] * x1) / p.sigma(t)[:, None]) / p.sigma(t)[:, None],
    "sde_step": lambda x, v, s, g, dt, z: torch.stack(
        [x[i] + v[i] * dt + s[i] * g * g * dt / 2 + math.sqrt(g * g * dt) * z[i] for i in range(len(x))]
    ),
    "reflow": lambda model, x0, steps: Pairs(x0, other_euler(model, x0, steps)),
    "w2_line": lambda a, b: math.sqrt(
        sum((x - y) ** 2 for x, y in zip(sorted(a.tolist()), sorted(b.tolist()), strict=True)) / len(a)
    ),
    "cfg": lambda f, t, x, c, n, s: (1 - s) * f(t, x, torch.full_like(c, n)) + s * f(t, x, c),
    "cfg_std": lambda S, q, s: math.exp((1 - s) * math.log(S) + s * math.log(q)),
}


@pytest.mark.parametrize("name", EXERCISES)
def test_another_style_is_accepted(name):
    for _ in range(3):
        verdict = examine(name, OTHER_STYLES[name])
        assert verdict.state == "right", verdict.message


@pytest.mark.parametrize("name", EXERCISES)
def test_single_precision_is_accepted(name):
    def single(*arguments):
        result = EXERCISES[name].right(*arguments)
        return type(result)(r.float() for r in result) if isinstance(result, tuple) else torch.as_tensor(result).float()

    assert examine(name, single).state == "right"


@pytest.mark.parametrize("name", EXERCISES)
def test_a_hard_coded_answer_is_refused(name):
    """It gives the right value for one call, then the same value again and again."""
    remembered = []

    def hard_coded(*arguments):
        if not remembered:
            remembered.append(EXERCISES[name].right(*arguments))
        return remembered[0]

    verdict = examine(name, hard_coded)
    assert verdict.state in ("wrong", "error"), verdict.message
    assert "random inputs only" in verdict.message or "shape" in verdict.message


def test_other_verdicts(capsys):
    assert examine("ema", lambda a, w, d: a + 0.3).state == "wrong"
    assert "not a mistake that I know" in examine("ema", lambda a, w, d: a + 0.3).message
    verdict = examine("ema", lambda a, w, d: 1 / 0)
    assert (verdict.state, verdict.message) == ("error", "Your function raised ZeroDivisionError: division by zero")
    assert "should return a tensor of shape [5]. Yours returned the shape []." in examine("ema", lambda *a: 1.0).message
    assert "Yours returned str" in examine("ema", lambda *a: "no").message
    assert "a pair" in examine("reflow", lambda model, x0, steps: x0).message
    with pytest.raises(ValueError, match="name must be one of"):
        examine("emma", lambda *a: None)
    with pytest.raises(TypeError, match="attempt must be a function, got int"):
        examine("ema", 3)
    start("ema")
    check("ema", lambda a, w, d: w)
    check("ema", EXERCISES["ema"].right)
    check("ema", EXERCISES["ema"].right)
    lines = capsys.readouterr().out.splitlines()
    assert "The clock runs" in lines[0] and lines[2].startswith("Correct. Time: 0 min") and lines[3] == "Correct."


def test_an_attempt_that_changes_its_input_judges_only_itself():
    def in_place(a, w, d):
        a.mul_(d)
        return a + (1 - d) * w

    assert examine("ema", in_place).state == "right"


def test_a_mistake_must_fit_all_draws(monkeypatch):
    """A checker with a wrong answer key would call the right answer wrong: the wrong twin of all of the above."""
    ema = EXERCISES["ema"]
    swapped = Exercise(ema.signature, ema.draw, lambda a, w, d: d * w + (1 - d) * a, {})
    monkeypatch.setitem(EXERCISES, "ema", swapped)
    assert examine("ema", ema.right).state == "wrong"
