"""The checker: it reads every form of an answer, tells what differs where nothing is recognised, and is not fooled."""

import itertools
import math
import re

import pytest
import torch
from learners import FORMS, answer, own_noise, returned, right

from fmlib.study.checker import check, examine, start
from fmlib.study.exercises import EXERCISES, Exercise
from fmlib.study.telling import apart


@pytest.mark.parametrize(
    "name", ["log_density_rate", "cfm_loss", "cosine_path", "marginal_sample", "reflow", "cfg_std"]
)
def test_half_precision_is_told(name):
    verdict = examine(name, returned(name, lambda v: (torch.as_tensor(v) * 1.003).half()))
    assert verdict.state == "wrong" and "half precision has 3 digits" in verdict.message, verdict.message


def test_bfloat16_inside_is_told():
    verdict = examine("heun", lambda f, t, u, x: EXERCISES["heun"].right(f, t, u, x.bfloat16()))
    assert "half precision has 3 digits" in verdict.message


# Wrong answers that nobody foresaw


def column_shift(v):
    v = v.clone()
    v[:, -1] += 1.0
    return v


def last_row(v):
    v = v.clone()
    v[-1] = v[-1] * 1.5 + 2
    return v


def late(t, v):
    return torch.where(t[:, None] > 0.5, v + torch.linspace(1, 2, v.shape[1]), v)


TOLD = [
    (
        "ema",
        lambda a, w, d: a + 0.3,
        r"differs\. The largest difference is at \[\d\] for average \[5\], weight \[5\], decay",
    ),
    ("ema", lambda a, w, d: 2 * right("ema", a, w, d), r"Yours is 2 times the right value everywhere"),
    ("ema", lambda a, w, d: -right("ema", a, w, d), r"the wrong sign everywhere"),
    ("ema", lambda a, w, d: 0 * a, r"is zero everywhere"),
    ("ema", lambda a, w, d: right("ema", a, w, d) - 0.25, r"is smaller by 0\.25 everywhere"),
    ("ema", lambda a, w, d: right("ema", a, w, d) + 0.125, r"is larger by 0\.125 everywhere"),
    ("ema", lambda a, w, d: 3 * right("ema", a, w, d) - 1, r"is 3 times the right value minus 1 everywhere"),
    ("ema", lambda a, w, d: right("ema", a, w, d) * d, r"is decay times the right value"),
    ("ema", lambda a, w, d: right("ema", a, w, d) + 2 * w, r"is the right value plus 2 times weight"),
    ("ema", lambda a, w, d: right("ema", a, w, d) - a, r"is the right value minus average|step only"),
    ("ema", lambda a, w, d: right("ema", a, w, d) / 0, r"nan or infinite in 5 of 5 numbers for average"),
    ("ema", lambda a, w, d: torch.log(right("ema", a, w, d)), r"nan or infinite in \d of 5 numbers"),
    ("ema", lambda a, w, d: right("ema", a, w, d).abs(), r"some signs are wrong"),
    ("ema", lambda a, w, d: right("ema", a, w, d).flip(0), r"right rows in the wrong order"),
    ("ema", lambda a, w, d: last_row(right("ema", a, w, d)), r"wrong in the last row only"),
    ("cfm_loss", lambda m, t, a, b: right("cfm_loss", m, t, a, b) * 1.7, r"The loss is 1\.7 times the right value"),
    ("cfm_loss", lambda m, t, a, b: right("cfm_loss", m, t, a, b) * len(a) ** 2, r"is \(the number of rows\)\^2 times"),
    ("cosine_path", lambda t, a, b: (right("cosine_path", t, a, b)[0], 2 * a), r"x_t is right\. u_t differs"),
    (
        "cosine_path",
        lambda t, a, b: (right("cosine_path", t, a, b)[0] * 3, right("cosine_path", t, a, b)[1]),
        r"know\. x_t is 3 times the right value everywhere\. u_t is right",
    ),
    (
        "cosine_path",
        lambda t, a, b: (right("cosine_path", t, a, b)[0], right("cosine_path", t, a, b)[1] * math.pi),
        r"x_t is right\. u_t is pi times the right value",
    ),
    (
        "cosine_path",
        lambda t, a, b: (right("cosine_path", t, a, b)[0], late(t, right("cosine_path", t, a, b)[1])),
        r"u_t is wrong where t is above about 0\.[45]",
    ),
    (
        "reflow",
        lambda m, x, n: (x, right("reflow", m, x, n)[1] * 1.3),
        r"x_0 is right\. x_1 is 1\.3 times the right value everywhere",
    ),
    ("reflow", lambda m, x, n: (x + 1, right("reflow", m, x, n)[1]), r"x_0 is larger by 1 everywhere\. x_1 is right"),
    ("eps_to_v", lambda p, *a: right("eps_to_v", p, *a) * p.sigma(a[0])[:, None], r"is sigma times the right value"),
    ("eps_to_v", lambda p, *a: right("eps_to_v", p, *a) / (1 - a[0][:, None]), r"is 1/\(1 - t\) times the right value"),
    ("heun", lambda f, t, u, x: right("heun", f, t, u, x) * (u - t), r"is t_next - t times the right value"),
    ("heun", lambda f, t, u, x: right("heun", f, t, u, x) + x, r"is the right value plus x, everywhere"),
    (
        "heun",
        lambda f, t, u, x: x + 0.3 * (right("heun", f, t, u, x) - x),
        r"in what is added to x: that is 0\.3 times",
    ),
    ("sde_step", lambda x, *a: x + a[2] * (right("sde_step", x, *a) - x), r"in what is added to x: that is g times"),
    ("heun", lambda f, t, u, x: column_shift(right("heun", f, t, u, x)), r"is wrong in the columns \[\d\]"),
    ("heun", lambda f, t, u, x: right("heun", f, t, u, x).flip(1), r"right columns in the wrong order"),
    ("swirl", lambda x, s: s.norm(dim=1)[:, None] * right("swirl", x, s), r"factor changes from row to row"),
    ("cfg_std", lambda S, q, s: right("cfg_std", S, q, s) * s, r"The width is s times the right value"),
    ("cfg_std", lambda S, q, s: right("cfg_std", S, q, s) * (1 + 0.001 * s), r"is right up to 0\.\d+ % only"),
    ("cfg_std", lambda S, q, s: ((1 - s) * S**2 + s * q**2 - 99) ** 0.5, r"nan or infinite in 1 of 1 numbers for S = "),
    ("w2_line", lambda a, b: right("w2_line", a, b) * 2, r"The distance is 2 times"),
]


@pytest.mark.parametrize("name, attempt, words", TOLD, ids=[f"{n}-{w[:30]}" for n, _, w in TOLD])
def test_an_unforeseen_answer_is_told_what_differs_where_and_by_what(name, attempt, words):
    verdict = examine(name, attempt)
    assert re.search(words, verdict.message), verdict.message


@pytest.mark.parametrize("name", [n for n in EXERCISES if n != "swirl"])
@pytest.mark.parametrize("off", [3e-4, 0.3])
def test_two_numbers_that_differ_are_printed_differently(name, off):
    """`reflow` said "expected 0.4622, got 0.4622"."""
    wave = lambda v: (
        torch.as_tensor(v)
        * (1 + off * torch.cos(torch.arange(torch.as_tensor(v).numel()).reshape(torch.as_tensor(v).shape)))
        + off**1.5 * torch.randn((), generator=torch.Generator().manual_seed(1))
    )
    message = examine(name, returned(name, wave)).message
    for expected, got in re.findall(r"right is (\S+), yours (\S+)\.(?:\s|$)", message):
        assert expected != got
    assert not re.search(r"\b1 times|by 0 ", message)
    assert "right is" in message or "times the right" in message, message


def test_reflow_names_the_value_that_differs():
    def late_noise(model, x0, steps):
        x0, x1 = EXERCISES["reflow"].right(model, x0, steps)
        return x0, x1 + 0.01 * torch.sin(3 * x0)

    message = examine("reflow", late_noise).message
    found = re.search(r"x_0 is right\. x_1 .*right is (\S+), yours (\S+)\.$", message)
    assert found and found[1] != found[2], message


FAST = ("log_density_rate", "swirl", "ema", "w2_line", "cfg_std")  # the others have many pairs of mistakes to try


def test_numbers_are_told_apart():
    assert apart(0.4622, 0.46221) == ("0.4622", "0.46221")
    assert apart(1.0, 2.0) == ("1", "2")
    a, b = apart(1.0, 1.0 + 1e-15)
    assert a != b


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in EXERCISES])
def test_equal_functions_get_equal_verdicts(name):
    """The mistakes, and an unforeseen answer, in other forms."""
    known = next(answer(name, how) for _, how in EXERCISES[name].each_mistake())
    unknown = returned(name, lambda v: torch.as_tensor(v).abs().sqrt() + 2)
    for wrong in (known, unknown):
        said = set()
        for form in (FORMS["numpy"], FORMS["list"]):

            def attempt(*arguments, wrong=wrong, form=form):
                value = wrong(*arguments)
                return tuple(map(form, value)) if isinstance(value, tuple) else form(value)

            torch.manual_seed(3)
            said.add(str(examine(name, attempt)))
        assert len(said) == 1, said


def test_an_answer_that_changes_is_told_so():
    calls = itertools.count()
    for attempt in (
        lambda a, w, d: right("ema", a, w, d) + torch.randn(5),
        lambda a, w, d: right("ema", a, w, d) + next(calls),
    ):
        verdict = examine("ema", attempt)
        assert verdict.state == "wrong" and "two calls with the same arguments" in verdict.message
    wrong_noise = lambda path, t, mean, std, z: own_noise(path, t, mean, 1.1 * std + 0.1, z)
    assert "two calls with the same arguments" in examine("marginal_sample", wrong_noise).message
    uniform = lambda path, t, mean, std, z: own_noise(path, t, mean, std, torch.rand_like(z).sub(0.5).mul(12**0.5))
    assert "two calls with the same arguments" in examine("marginal_sample", uniform).message


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


def test_shapes_and_errors_are_explained():
    said = lambda name, attempt: examine(name, attempt).message
    assert "should return a tensor of shape [5]. Yours returned the shape []." in said("ema", lambda *a: 1.0)
    assert re.search(
        r"shape \[\d, 1\]\. The numbers are right\.",
        said("log_density_rate", lambda j: right("log_density_rate", j)[:, None]),
    )
    assert re.search(
        r"shape \[\d, \d\]\. The numbers are right\. Is it transposed\?", said("heun", lambda *a: right("heun", *a).T)
    )
    assert "Yours returned str" in said("ema", lambda *a: "no")
    assert "Yours returned dict" in said("reflow", lambda *a: {"x0": 1})
    assert re.search(r"a pair: .* Yours returned one tensor of shape", said("reflow", lambda model, x0, steps: x0))
    assert "Yours returned 3 values" in said("reflow", lambda model, x0, steps: (x0, x0, x0))
    assert "Yours returned 2 values of the shapes [5], []" in said("ema", lambda a, w, d: (a, d))
    message = said(
        "cfm_loss", lambda model, t, x0, x1: (model(t, (1 - t) * x0 + t * x1) - x1 + x0).square().sum(1).mean()
    )
    assert re.search(r"raised RuntimeError.*Shapes: t \[\d\], x0 \[\d, \d\].*t\[:, None\]", message), message
    assert "takes the time first" in said("heun", lambda model, t, u, x: model(x, t))
    assert "null" in said("cfg", lambda f, t, x, c, n, s: f(t, x, None))


def test_other_verdicts(capsys):
    assert examine("ema", lambda a, w, d: a + 0.3).state == "wrong"
    assert "not a mistake that I know" in examine("ema", lambda a, w, d: a + 0.3).message
    verdict = examine("ema", lambda a, w, d: 1 / 0)
    assert (verdict.state, verdict.message) == ("error", "Your function raised ZeroDivisionError: division by zero")
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
