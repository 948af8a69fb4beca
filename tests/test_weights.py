"""Stored weights: read where their stamp fits, refused where it does not, and the same after a training anew."""

import os
import sys
import warnings
from pathlib import Path

import pytest
import torch
from nbclient.exceptions import CellExecutionError
from safetensors import safe_open
from torch import nn

from fmlib import VectorFieldMLP, trained, weights
from fmlib.weights import stamp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import render  # noqa: E402
import weights as tool  # noqa: E402

STEPS, GOAL = 3, torch.ones(2, 2)
CALLS = []


def make(**kwargs):
    torch.manual_seed(0)
    return VectorFieldMLP(2, 8, t_dim=8, **kwargs)


def fit(net):
    """A training that draws random numbers."""
    CALLS.append("fit")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(STEPS):  # a comment
        optimizer.zero_grad()
        (net(0.5, torch.randn(4, 2)) - 1).square().sum().backward()
        optimizer.step()
    return net


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A function that calls `trained` under a value of TRAIN, None for unset, with an empty store at first."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "stored")
    CALLS.clear()

    def call(mode, net=None, train=fit, name="small"):
        monkeypatch.delenv("TRAIN", raising=False)
        if mode is not None:
            monkeypatch.setenv("TRAIN", mode)
        CALLS.clear()
        return trained(name, net or make(), train)

    call.file = tmp_path / "stored" / "small.safetensors"
    return call


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_what_was_written_is_read_without_a_training(at):
    written = at("write")
    assert CALLS and at.file.exists()
    for mode in (None, "", "stored"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net = at(mode)
        assert not CALLS and same(net, written) and not same(net, make())
        assert not net.training and not any(p.requires_grad for p in net.parameters())
    anew = at("1")
    assert CALLS and same(anew, written) and not anew.training and not any(p.requires_grad for p in anew.parameters())
    with safe_open(at.file, "pt") as held:
        assert held.metadata() == {"stamp": stamp(make(), fit)}


@pytest.mark.parametrize("mode", [None, "1", "stored", "write", "check"])
def test_the_random_numbers_that_follow_do_not_depend_on_the_mode(at, mode):
    at("write")
    make()
    right = torch.randn(3)
    at(mode)
    assert torch.equal(torch.randn(3), right)
    make(), fit(make())  # the wrong twin: a training draws
    assert not torch.equal(torch.randn(3), right)


def test_nothing_stored(at):
    with pytest.warns(UserWarning, match="there are no stored weights 'small': training anew"):
        at(None)
    assert CALLS and not at.file.exists()
    for mode in ("stored", "check"):
        with pytest.raises(ValueError, match="there are no stored weights 'small': run make weights"):
            at(mode)
        assert not CALLS


def longer(net):
    CALLS.append("longer")
    return fit(net)


def test_weights_of_other_code_are_refused(at, monkeypatch):
    at("write")
    stale = "the stored weights 'small' come from another network or training"
    for change in ({"net": VectorFieldMLP(2, 16, t_dim=8)}, {"train": longer}, {"net": nn.Linear(2, 2)}):
        with pytest.raises(ValueError, match=f"{stale}: run make weights"):
            at("stored", **change)
    with pytest.warns(UserWarning, match=f"{stale}: training anew"):
        at(None, train=longer)
    assert CALLS == ["longer", "fit"]
    monkeypatch.setattr(sys.modules[__name__], "STEPS", 4)  # a number that the training finds outside
    with pytest.raises(ValueError, match=stale):
        at("stored")


def test_a_damaged_file_is_refused(at):
    at("write")
    at.file.write_bytes(at.file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"the stored weights 'small' cannot be read \(.*\): run make weights"):
        at("stored")
    with pytest.warns(UserWarning, match="cannot be read"):
        at(None)
    at("write")
    at("stored")


def source(text: str, folder: Path, name: str):
    """A function from a file of its own, as inspect wants it."""
    file = folder / f"{name}.py"
    file.write_text(text)
    held = {}
    exec(compile(text, file, "exec"), held)
    return held["fit"]


def test_the_stamp_does_not_see_comments_and_sees_everything_else(tmp_path):
    text = 'STEPS = 3\ndef fit(net):\n    """Words."""\n    for _ in range(STEPS): net = net\n    return net\n'
    first, net = source(text, tmp_path, "first"), make()
    changed = {
        "comment": text.replace("return net", "return net  # the end"),
        "docstring": text.replace("Words", "Other words"),
        "spaces": text.replace("def fit(net)", "def fit( net )"),
    }
    for name, new in changed.items():
        assert stamp(net, source(new, tmp_path, name)) == stamp(net, first), name
    for name, new in {"code": text.replace("net = net", "pass"), "number": text.replace("= 3", "= 4")}.items():
        assert stamp(net, source(new, tmp_path, name)) != stamp(net, first), name
    assert stamp(make(num_classes=2), first) != stamp(net, first)
    assert stamp(net, source("def fit(net):\n    'Words alone.'\n", tmp_path, "words"))


def test_check_tells_rounding_from_another_training(at, monkeypatch):
    at("write")
    at("check")
    assert CALLS

    def nudged(by):
        def read(file, mark):
            held, problem = real(file, mark)
            weight = held["x_in.weight"]
            held["x_in.weight"] = weight + by * weight.norm() * torch.eye(8, 2) / 2**0.5
            return held, problem

        return read

    real = weights._read
    monkeypatch.setattr(weights, "_read", nudged(0.8e-3))
    at("check")
    monkeypatch.setattr(weights, "_read", nudged(2e-3))
    with pytest.raises(ValueError, match="trained anew, must end within 0.001 of the stored ones, got 0.002 in x_in"):
        at("check")
    monkeypatch.setattr(weights, "_read", nudged(float("nan")))
    with pytest.raises(ValueError, match="got nan in x_in"):
        at("check")


def test_several_networks_of_one_training(at):
    def both(nets):
        nets["b"].load_state_dict(fit(nets["a"]).state_dict())
        return nets

    two = lambda: nn.ModuleDict({"a": make(), "b": VectorFieldMLP(2, 8, t_dim=8)})
    written = at("write", two(), both)
    read = at("stored", two(), both)
    assert same(read, written) and same(read["a"], read["b"])


def test_arguments_that_do_not_fit(at):
    for name in ("a/b", "", "a.b", 3):
        with pytest.raises(ValueError, match="name must be made of letters, digits, - and _, got"):
            at("1", name=name)
    with pytest.raises(TypeError, match="net must be a torch.nn.Module, got str"):
        at("1", "net")
    for train in (lambda net: net, len, 3, VectorFieldMLP):
        with pytest.raises(TypeError, match="train must be a function that was made with def"):
            at("1", train=train)
    with pytest.raises(ValueError, match="TRAIN must be unset or one of .*'1'.*, got 'yes'"):
        at("yes")

    def forgets(net):
        fit(net)

    def other(net):
        return nn.Linear(2, 2)

    for train in (forgets, other):
        with pytest.raises(TypeError, match="train must return a network like net, got (NoneType|Linear)"):
            at("write", train=train)
        assert not at.file.exists()


# --- make weights

LESSON = """# %%
import torch
from fmlib import *

fmlib_weights = __import__("fmlib.weights").weights
fmlib_weights.FOLDER = fmlib_weights.Path({folder!r})


# %%
def fit(net):
    return train_flow_matching(net, MoonDataset(32, 5), rectified_flow_path(), 5, log_every=0)[1]


torch.manual_seed(0)
net = trained("tiny", VectorFieldMLP(2, 8, t_dim=8), fit)
print(torch.randn(1).item())
"""


@pytest.mark.slow
def test_make_weights_runs_the_lesson_and_a_render_asks_for_them(tmp_path, monkeypatch, capsys):
    (tmp_path / "src").mkdir()
    store, text = tmp_path / "stored", tmp_path / "src" / "04_mine.py"
    text.write_text(LESSON.format(folder=str(store)))
    (tmp_path / "src" / "05_plain.py").write_text("# %%\nraise SystemExit  # is not run: it calls nothing\n")
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(tool, "FOLDER", store)
    printed = lambda notebook: notebook.cells[1].outputs[0].text
    with pytest.raises(CellExecutionError, match="there are no stored weights 'tiny': run make weights"):
        render.execute(render.read_text(text))
    store.mkdir()
    (store / "old.safetensors").write_bytes(b"")
    os.utime(store / "old.safetensors", (0, 0))
    monkeypatch.setattr(sys, "argv", ["weights.py"])
    assert tool.main() == 0 and capsys.readouterr().out == "04_mine: written\n"
    assert [file.name for file in store.iterdir()] == ["tiny.safetensors"]
    stored, anew = render.read_text(text), render.read_text(text)
    render.execute(stored)
    render.execute(anew, train="1")
    assert printed(stored) == printed(anew)
    monkeypatch.setattr(sys, "argv", ["weights.py", "--check", "04"])
    assert tool.main() == 0 and capsys.readouterr().out == "04_mine: checked\n"
    text.write_text(text.read_text().replace("32, 5", "64, 5"))
    with pytest.raises(CellExecutionError, match="come from another network or training: run make weights"):
        tool.main()
