"""The exercises: other styles of a right answer are accepted, each known mistake is named, the lessons ask them all."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from learners import FORMS, STYLES, TURN, answer, columns, rest_loss, returned, tensors

import fmlib
from fmlib.study.answers import Trial, read
from fmlib.study.bank import LESSONS
from fmlib.study.checker import examine, fits
from fmlib.study.exercises import EXERCISES, Exercise
from fmlib.study.exercises.register import register
from fmlib.study.exercises.solvers import EULER_MISTAKES

MISTAKES = [(name, message, answer(name, how)) for name in EXERCISES for message, how in EXERCISES[name].each_mistake()]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_answer_is_right_and_nothing_is_nothing(name):
    assert examine(name, EXERCISES[name].right).state == "right"
    for nothing in (None, ...):
        verdict = examine(name, lambda *arguments, nothing=nothing: nothing)
        assert (verdict.state, verdict.message) == ("empty", "Not attempted yet.")


@pytest.mark.parametrize("name, message, wrong", MISTAKES, ids=[f"{n}-{m[:30]}" for n, m, _ in MISTAKES])
def test_each_mistake_is_named(name, message, wrong):
    verdict = examine(name, wrong)
    assert (verdict.state, verdict.message) == ("mistake", f"Not yet: {message}")


# Right answers as a candidate may write them


ALL_STYLES = [(name, k) for name, functions in STYLES.items() for k in range(len(functions))]


def test_every_exercise_has_four_styles_of_right_answers():
    assert STYLES.keys() == EXERCISES.keys()
    assert min(map(len, STYLES.values())) >= 4


@pytest.mark.parametrize("name, k", ALL_STYLES)
def test_another_style_is_accepted(name, k):
    for _ in range(2):
        verdict = examine(name, STYLES[name][k])
        assert verdict.state == "right", verdict.message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", EXERCISES)
def test_the_form_of_the_numbers_does_not_matter(name, form):
    verdict = examine(name, returned(name, FORMS[form]))
    assert verdict.state == "right", verdict.message


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_no_right_answer_is_refused_over_200_seeds(name):
    for seed in range(200):
        torch.manual_seed(seed)
        k = seed % len(STYLES[name])
        assert examine(name, STYLES[name][k]).state == "right", (seed, k)


def false_accusations(exercise, seeds):
    """Mistakes that the right answer makes, or that an earlier message takes, in one draw of each seed."""
    found = set()
    for seed in range(seeds):
        torch.manual_seed(seed)
        trials = []
        for _ in range(2):
            arguments = exercise.draw()
            right = read(exercise.right(*arguments), len(exercise.returns))
            trials.append(Trial(dict(zip(exercise.arguments, arguments, strict=True)), right, right))
        found |= {message for message, how in exercise.each_mistake() if fits(exercise, how, trials)}
    return found


@pytest.mark.parametrize("name", EXERCISES)
def test_no_mistake_is_the_right_answer(name):
    assert false_accusations(EXERCISES[name], 4) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_no_mistake_is_the_right_answer_over_200_seeds(name):
    assert false_accusations(EXERCISES[name], 200) == set()


def test_a_mistake_that_is_none_is_found():
    ema = EXERCISES["ema"]
    spoilt = Exercise(ema.signature, ema.draw, ema.right, {"none": lambda a, w, d: w + d * (a - w)})
    assert false_accusations(spoilt, 2) == {"none"}


# Mistakes as a candidate writes them, apart from the checker's own keywords


def heun_without_x(model, t, t_next, x):
    dt = t_next - t
    v1 = model(t, x)
    return dt * (v1 + model(t_next, x + dt * v1)) / 2


def one_step_more(model, x0, steps):
    x = x0
    for t in torch.linspace(0, 1, steps + 1):
        x = x + model(t, x) / steps
    return x


def marginal_with(weights):
    return lambda t, x, data: (weights(torch.cdist(x, t * data), t) @ data - x) / (1 - t)


def cosine_with(angle, rate):
    def path(t, x0, x1):
        a = angle * t[:, None]
        return a.sin() * x1 + a.cos() * x0, rate * (a.cos() * x1 - a.sin() * x0)

    return path


def sample_with(width):
    def sample(path, t, mean, std, z):
        a, s = tensors(path, t)
        return a * mean + width(a, s, std) * z

    return sample


def step_with(drift, noise):
    return lambda x, v, score, g, dt, z: x + drift(v, score, g, dt) + noise(g, dt) * z


FIELD_TEST = [  # the candidates' answers that were told nothing useful
    ("cosine_path", cosine_with(math.pi, math.pi), "the angle is pi t"),
    ("cosine_path", cosine_with(math.pi, math.pi / 2), "the angle is pi t"),
    ("cosine_path", cosine_with(math.pi / 2, math.pi), "the factor is pi; the chain rule gives pi/2"),
    ("marginal_field", marginal_with(lambda r, t: torch.softmax(-(r**2) / (2 * (1 - t) ** 2), 0)), "softmax runs over"),
    ("marginal_field", marginal_with(lambda r, t: torch.softmax(-(r**2) / (2 * t**2), 1)), "the variance t^2"),
    ("log_density_rate", lambda j: -torch.linalg.slogdet(j)[1], "log |det|"),
    ("log_density_rate", lambda j: torch.slogdet(j).logabsdet, "two things at once. First, the sign is flipped."),
    ("marginal_sample", sample_with(lambda a, s, std: (a * std**2 + s).sqrt()), "all squared"),
    ("marginal_sample", sample_with(lambda a, s, std: (a * std**2 + s**2).sqrt()), "all squared"),
    ("marginal_sample", sample_with(lambda a, s, std: -((a**2 * std**2 + s).sqrt())), "all squared"),
    ("logit_normal", lambda z, m, s: torch.sigmoid((z - m) / s), "(z - m) / s"),
    ("logit_normal", lambda z, m, s: torch.sigmoid(-(m + s * z)), "SD3"),
    ("eps_to_v", lambda path, t, xt, eps: (xt - eps) / t[:, None], "(x_t - eps) / t: right for the straight line"),
    ("x1_to_score", lambda path, t, xt, x1: (x1 - xt) / (1 - t[:, None]), "(x_1 - x_t) / (1 - t), the straight line's"),
    (
        "eps_to_v",
        lambda path, t, xt, eps: ((xt - columns(path, t)[1] * eps) / columns(path, t)[0] - xt) / (1 - t[:, None]),
        "(x_1 - x_t) / (1 - t): right for the straight line",
    ),
    ("sde_step", step_with(lambda v, s, g, dt: (v + g * s) * dt, lambda g, dt: g * dt**0.5), "g where g^2 belongs"),
    ("sde_step", step_with(lambda v, s, g, dt: (v + g / 2 * s) * dt, lambda g, dt: g * dt**0.5), "g where g^2 belongs"),
    ("sde_step", step_with(lambda v, s, g, dt: (v + g**2 / 2 * s) * dt, lambda g, dt: g), "the noise has no dt"),
    ("sde_step", step_with(lambda v, s, g, dt: (v + g**2 / 2 * s) * dt, lambda g, dt: -g), "the noise has no dt"),
    ("sde_step", step_with(lambda v, s, g, dt: v * dt + g**2 / 2 * s, lambda g, dt: g * dt**0.5), "has no dt"),
    (
        "cfg",
        lambda f, t, x, c, n, s: (1 - s) * f(t, x, torch.zeros_like(c)) + s * f(t, x, c),
        "class 0 was used",
    ),
    ("cfg_std", lambda S, q, s: q * (q / S) ** s, "q (q / S)^s"),
    ("heun", heun_without_x, '"x +" is missing'),
    ("euler_sampler", one_step_more, "one step too many: linspace(0, 1, steps + 1)"),
    (
        "reflow",
        lambda model, x0, steps: (x0, one_step_more(model, x0, steps)),
        "x_0 is right; x_1 is not: one step too",
    ),
]


@pytest.mark.parametrize("name, attempt, words", FIELD_TEST)
def test_the_mistakes_of_the_field_test_are_named(name, attempt, words):
    verdict = examine(name, attempt)
    assert verdict.state == "mistake" and words in verdict.message, verdict.message


def test_on_the_line_x1_minus_xt_over_the_time_left_is_right():
    """The same quotient is a mistake on another path, and without the division."""
    assert examine("cfm_loss", rest_loss).state == "right"
    assert (
        "lacks the factor 1 / (1 - t)"
        in examine("cfm_loss", answer("cfm_loss", dict(target=lambda x0, x1, xt: x1 - xt))).message
    )


def test_two_mistakes_at_once():
    def both(model, t, x0, x1):
        xt = t[:, None] * x0 + (1 - t[:, None]) * x1
        return F.mse_loss(model(t, xt), x1 - x0)

    message = examine("cfm_loss", both).message
    assert "First, that is the mean over the dimensions." in message and "Second, x_0 and x_1 are swapped" in message


def test_a_swirl_that_moves_the_density_is_refused():
    """Multiples are right; what is no field of the kind is not, whatever its size."""
    for wrong in (
        lambda x, s: 1e-3 * s,
        lambda x, s: 5 * x.flip(1),
        lambda x, s: s @ TURN + 0.1 * x,
        lambda x, s: x * s,
    ):
        assert examine("swirl", wrong).state != "right"


def test_reflow_knows_the_samplers_mistakes():
    known = " ".join(EXERCISES["reflow"].mistakes)
    assert sum(message in known for message in EULER_MISTAKES) >= 20
    assert all(len(exercise.mistakes) >= 11 for exercise in EXERCISES.values())


def test_a_name_is_given_once():
    """The wrong twin, a second exercise of this name, would silently replace the first."""
    ema = EXERCISES["ema"]
    with pytest.raises(ValueError, match="name must be new, got 'ema', which is ema\\("):
        register("ema", "other(a)", ema.draw, ema.right, {})
    assert EXERCISES["ema"] is ema


# The lessons that ask them

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {n: ROOT / "notebooks" / "src" / f"{name}.py" for n, name in LESSONS.items()}
WITH_EXERCISES = [n for n, path in SOURCES.items() if path.exists() and "## Your turn" in path.read_text("utf-8")]


def exercises(lesson: int) -> list[tuple[str, str]]:
    """(name of the exercise, text of its folded solution), in their order."""
    text = SOURCES[lesson].read_text("utf-8")
    names = re.findall(r'^check\("(\w+)", \w+\)$', text, flags=re.M)
    solutions = re.findall(r"^# ```python\n((?:#.*\n)+?)# ```\n#\n# </details>", text, flags=re.M)
    assert len(names) == len(solutions) >= 2
    return [(name, re.sub(r"^# ?", "", code, flags=re.M)) for name, code in zip(names, solutions, strict=True)]


@pytest.mark.parametrize("lesson", WITH_EXERCISES)
def test_the_printed_solutions_are_right(lesson):
    """Pasted into the stub's place: the exercise cells need nothing but the lesson's imports."""
    for name, code in exercises(lesson):
        namespace = {"torch": torch} | {n: getattr(fmlib, n) for n in dir(fmlib) if not n.startswith("_")}
        exec(code, namespace)
        function = namespace[re.match(r"def (\w+)", code)[1]]
        assert examine(name, function).state == "right", name


@pytest.mark.parametrize("lesson", WITH_EXERCISES)
def test_nothing_is_attempted_in_the_stored_lessons(lesson):
    cells = json.loads((ROOT / "notebooks" / f"{LESSONS[lesson]}.ipynb").read_text("utf-8"))["cells"]
    said = [
        "".join(output.get("text", ""))
        for cell in cells
        if re.search(r'^check\("', "".join(cell["source"]), flags=re.M)
        for output in cell["outputs"]
    ]
    assert len(said) >= 2 and set(said) == {"Not attempted yet.\n"}


def test_every_exercise_is_in_a_lesson():
    assert WITH_EXERCISES == list(range(1, 9))
    assert sorted(name for lesson in WITH_EXERCISES for name, _ in exercises(lesson)) == sorted(EXERCISES)
