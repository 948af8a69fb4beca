"""The training engine: config errors, exact resume, checkpoints that survive, several processes."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace
from pathlib import Path

import frozen_loops
import pytest
import torch

from fmlib import cfm_loss, load_digits_flow, sample_moons
from fmlib.engine import RunError, TrainConfig, check_gradient, load_ema, train
from fmlib.engine.checkpoints import read_checkpoint, write_checkpoint
from fmlib.engine.config import N_TRAIN, SAMPLERS
from fmlib.engine.shards import Shards
from fmlib.train import main, read_arguments

TINY = {"hidden": 16, "steps": 12, "batch": 16, "save_every": 4, "log_every": 0, "device": "cpu"}
DIGITS = {**TINY, "data": "digits", "network": "dit", "blocks": 1, "label_dropout": 0.5, "checkpointing": True}


class Killed(Exception):
    pass


def killed_at(step):
    def callback(now, loss):
        if now == step:
            raise Killed

    return callback


def same(a, b):
    """Equal bits in two networks?"""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.name != ".lock")


def python(*arguments, processes=0, timeout=100):
    """Run python, or torchrun with several processes, in a group of its own that is gone at the end."""
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes else []
    child = subprocess.Popen(
        [sys.executable, *run, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=timeout)
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
    return child.returncode, output


def script(folder, name, text):
    (folder / name).write_text(
        "from fmlib.engine import *\nfrom fmlib.engine.checkpoints import *\nfrom fmlib.engine.config import *\n"
        "import torch, torch.distributed as dist, os, sys, json\n" + textwrap.dedent(text)
    )
    return folder / name


# --- the config


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"stpes": 5}, ValueError, "unknown key 'stpes' .value 5.: did you mean 'steps'"),
        ({"zzz": 5}, ValueError, "unknown key 'zzz'.*expected one of data, path"),
        ({"data": "moon"}, ValueError, "data must be one of moons, eight_gaussians, checkerboard, digits, got 'moon'"),
        ({"precision": 16}, ValueError, "precision must be one of fp32, bf16, fp16, got 16"),
        ({"t_dist": ["uniform"]}, ValueError, "t_dist must be one of"),
        ({"steps": "5"}, TypeError, "steps must be an integer of at least 2, got '5'"),
        ({"steps": 1}, ValueError, "steps must be an integer of at least 2, got 1"),
        ({"lr": "high"}, TypeError, "lr must be a finite number above 0, got 'high'"),
        ({"lr": 0}, ValueError, "lr must be a finite number above 0, got 0"),
        ({"ema_decay": 1.0}, ValueError, "ema_decay must be below 1"),
        ({"out": 3}, TypeError, "out must be the name of a folder, got 3"),
        ({"checkpointing": 1}, TypeError, "checkpointing must be true or false, got 1"),
        ({"checkpointing": True}, ValueError, "checkpointing needs network = 'dit'.*network = 'mlp'"),
        ({"blocks": 3}, ValueError, "blocks needs network = 'residual' or 'dit', got .* network = 'mlp'"),
        ({"network": "dit"}, ValueError, "network = 'dit' needs data = 'digits', got data = 'moons'"),
        ({"label_dropout": 0.1}, ValueError, "label_dropout needs data = 'digits', got data = 'moons'"),
        ({"data": "digits", "label_dropout": 2}, ValueError, "label_dropout must be .* at most 1, got 2"),
        ({"data": "digits", "batch": 2000}, ValueError, "batch must be at most 1437 for data = 'digits', got 2000"),
        ([1], TypeError, "config must be an object of keys and values, got list"),
    ],
)
def test_config_errors_name_the_key(values, error, message):
    with pytest.raises(error, match=message):
        TrainConfig.from_dict(values)


def test_the_command_line_wins_over_the_file(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"data": "digits", "steps": 7, "label_dropout": 0.1}))
    config = read_arguments([str(file), "--steps", "9", "--save-every", "3", "--label_dropout", "null"])
    assert (config.data, config.steps, config.save_every, config.label_dropout) == ("digits", 9, 3, None)
    for arguments, message in (
        (["--steps"], "pairs --key value or --key=value, got '--steps' without its value"),
        (["--steps", "--lr", "1"], "got '--steps' without its value"),
        (["--steps", "9", "3"], "pairs --key value or --key=value, got '3' without its key"),
        ([str(tmp_path / "none.json")], "config must be a JSON file.*No such file"),
    ):
        with pytest.raises(ValueError, match=message):
            read_arguments(arguments)
    for text, message in (
        ("{'steps': 7}", "config must be a JSON file"),
        ('{"lr": 1, "steps": 7, "steps": 8}', "config must be a JSON file, got .* it has 'steps' more than once"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_arguments([str(file)])


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["--steps=200"], "steps", 200),
        (["--steps", "1e3"], "steps", 1000),
        (["--steps", "1_000"], "steps", 1000),
        (["--save-every=7"], "save_every", 7),
        (["--lr", "1E-3"], "lr", 1e-3),
        (["--lr=1"], "lr", 1.0),
        (["--out", "123"], "out", "123"),
        (["--out", "1e3"], "out", "1e3"),
        (["--out=true"], "out", "true"),
        (["--out=a=b"], "out", "a=b"),
        (["--out", "null"], "out", "null"),
        (["--checkpointing", "true"], "checkpointing", True),
        (["--checkpointing", "True"], "checkpointing", True),
        (["--checkpointing", "no"], "checkpointing", False),
        (["--checkpointing"], "checkpointing", True),
        (["--label_dropout", "None"], "label_dropout", None),
        (["--label_dropout", ".1"], "label_dropout", 0.1),
    ],
)
def test_flags_are_read_by_their_key(arguments, key, value):
    """Guessed to be JSON, "123" and "null" were no folders, True was a text and 1e3 no number of steps."""
    config = read_arguments(["--data", "digits", "--network", "dit", *arguments])
    assert getattr(config, key) == value and type(getattr(config, key)) is type(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "1.5"], "steps must be an integer of at least 2, got 1.5"),
        (["--steps=many"], "steps must be an integer of at least 2, got 'many'"),
        (["--steps="], "steps must be an integer of at least 2, got ''"),
        (["--lr", "fast"], "lr must be a finite number above 0, got 'fast'"),
        (["--seed", "-1"], "seed must be an integer of at least 0, got -1"),
        (["--out="], "out must be the name of a folder, got ''"),
        (["--checkpointing", "maybe"], "checkpointing must be true or false, got 'maybe'"),
        (["--label_dropout", "some"], "label_dropout must be a finite number .*got 'some'"),
        (["--stepz=5"], "unknown key 'stepz' .value '5'.: did you mean 'steps'"),
    ],
)
def test_flags_that_cannot_be_read_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read_arguments(arguments)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_config_files_as_editors_save_them(tmp_path, encoding):
    """With the mark that Windows editors put before UTF-8 the file was refused."""
    file = tmp_path / "config.json"
    file.write_text('{"out": "Läufe", "steps": 1e3}', encoding=encoding)
    config = read_arguments([str(file)])
    assert (config.out, config.steps) == ("Läufe", 1000) and type(config.steps) is int


def test_the_command_line_reports_errors_without_a_traceback(tmp_path, capsys):
    assert main(["--stepz", "9"]) == 2
    assert "did you mean 'steps'" in capsys.readouterr().err
    assert main(["--precision", "fp16", "--device", "cpu", "--out", str(tmp_path)]) == 1
    assert "precision must be 'fp32' or 'bf16' on a CPU" in capsys.readouterr().err
    assert main(["--check-gradient"]) == 1
    assert "torchrun --nproc_per_node=2" in capsys.readouterr().err
    assert main(["--help"]) == 0 and "label_dropout" in capsys.readouterr().out


# --- one process


def test_it_learns_and_leaves_a_network_to_sample_from(tmp_path):
    run = train(TrainConfig(**{**TINY, "steps": 300, "batch": 64, "save_every": 100, "out": str(tmp_path)}))
    assert len(run.losses) == 300 and sum(run.losses[-50:]) < 0.8 * sum(run.losses[:50])
    assert names(tmp_path) == ["step_000100.pt", "step_000200.pt", "step_000300.pt"]
    assert same(load_ema(str(tmp_path)), run.ema) and not same(run.model, run.ema)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        {**TINY, "data": "checkerboard", "path": "vp_linear", "t_dist": "logitnormal", "precision": "bf16"},
        {**TINY, "data": "digits", "network": "residual", "batch": 500},  # 2 steps an epoch
        DIGITS,
    ],
    ids=["moons", "bf16", "epochs", "dit"],
)
def test_a_killed_run_continues_bit_for_bit(tmp_path, config):
    whole = train(TrainConfig(**config, out=str(tmp_path / "whole")))
    out = str(tmp_path / "killed")
    for step in (7, 10):
        with pytest.raises(Killed):
            train(TrainConfig(**config, out=out), killed_at(step))
    resumed = train(TrainConfig(**config, out=out))
    assert resumed.losses == whole.losses and same(resumed.model, whole.model) and same(resumed.ema, whole.ema)
    assert train(TrainConfig(**config, out=out)).losses == whole.losses  # nothing left to do


@pytest.mark.parametrize("part", ["rng", "optimizer", "scheduler", "ema", "model"])
def test_every_part_of_a_checkpoint_is_needed(tmp_path, part):
    """The wrong twin of the test above: without one of the parts the continuation differs."""
    config = TrainConfig(**TINY, out=str(tmp_path))
    whole = train(config)
    late, early = (read_checkpoint(tmp_path / f"step_{step:06d}.pt") for step in (8, 4))
    write_checkpoint({**late, part: early[part]}, tmp_path / "step_000008.pt")
    (tmp_path / "step_000012.pt").unlink()
    resumed = train(config)
    assert not (resumed.losses == whole.losses and same(resumed.model, whole.model) and same(resumed.ema, whole.ema))


def test_more_steps_continue_a_finished_run(tmp_path):
    config = TrainConfig(**TINY, out=str(tmp_path))
    first = train(config)
    longer = train(TrainConfig(**{**TINY, "steps": 20}, out=str(tmp_path)))
    assert longer.losses[:12] == first.losses and len(longer.losses) == 20
    assert names(tmp_path) == ["step_000012.pt", "step_000016.pt", "step_000020.pt"]  # the last three


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    config = TrainConfig(**TINY, out=str(tmp_path))
    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        return cfm_loss(*args, **kwargs) * (float("nan") if len(calls) == 6 else 1)

    monkeypatch.setattr("fmlib.engine.loop.cfm_loss", broken)
    with pytest.raises(FloatingPointError, match="the loss became nan at step 6 of 12"):
        train(config)
    assert names(tmp_path) == ["step_000004.pt"]


# --- checkpoints


def test_another_run_is_not_overwritten(tmp_path):
    train(TrainConfig(**TINY, out=str(tmp_path)))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match="checkpoints of another run: lr = 0.004 there and 0.001 here; seed = 0 .* 1"):
        train(TrainConfig(**TINY, lr=1e-3, seed=1, out=str(tmp_path)))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "File is not a zip file"),
        (lambda path: path.write_bytes(b""), "File is not a zip file"),
        (damage, "damaged|not readable"),
        (lambda path: torch.save({"weights": torch.ones(2)}, path), "not a checkpoint of fmlib.train"),
        (lambda path: torch.save(TrainConfig(), path), "Weights only load failed"),  # a pickled object
        (lambda path: path.write_bytes((path.parent / "step_000004.pt").read_bytes()), "it holds step 4"),
    ],
    ids=["truncated", "empty", "flipped bit", "other program", "pickle", "renamed"],
)
def test_a_bad_checkpoint_is_refused_and_the_one_before_used(tmp_path, capsys, spoil, reason):
    config = TrainConfig(**TINY, out=str(tmp_path))
    whole = train(config)
    last = tmp_path / "step_000012.pt"
    spoil(last)
    spoiled = last.read_bytes()
    capsys.readouterr()
    resumed = train(config)
    printed = capsys.readouterr().out
    assert "step_000012.pt is not used: " in printed and "resumed from" in printed and "step_000008.pt" in printed
    assert re.search(reason, printed)
    assert resumed.losses == whole.losses and same(resumed.model, whole.model)
    assert (tmp_path / "step_000012.pt.aside-1").read_bytes() == spoiled  # moved aside, not deleted


@pytest.mark.slow
def test_a_kill_while_writing_leaves_the_old_checkpoint(tmp_path):
    """Killed between writing and renaming; the wrong twin, killed while it writes in place, loses the checkpoint."""
    path = tmp_path / "step_000004.pt"
    state = {"format": "fmlib.train 1", "step": 4, "weights": torch.zeros(1000)}
    write_checkpoint(state, path)
    code = script(
        tmp_path,
        "kill.py",
        """
        state = {"format": "fmlib.train 1", "step": 4, "weights": torch.ones(1000)}
        os.replace = lambda *_: os._exit(9)
        write_checkpoint(state, Path(sys.argv[1]))
        """,
    )
    assert python(code, path)[0] == 9
    assert read_checkpoint(path)["weights"].sum() == 0 and (tmp_path / "step_000004.pt.tmp").exists()
    write_checkpoint({**state, "weights": torch.ones(1000)}, path)  # what is left does not disturb the next writer
    assert read_checkpoint(path)["weights"].sum() == 1000 and names(tmp_path) == ["kill.py", "step_000004.pt"]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="not readable"):
        read_checkpoint(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device /dev/full")
def test_a_full_disk(tmp_path, capsys):
    """/dev/full answers every write with ENOSPC; here it stands in for the temporary file of step 8."""
    (tmp_path / "step_000008.pt.tmp").symlink_to("/dev/full")
    arguments = [str(a) for key, value in {**TINY, "out": tmp_path}.items() for a in (f"--{key}", value)]
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert "step_000008.pt could not be written: the disk is full. The checkpoints before it are intact" in printed
    assert names(tmp_path) == ["step_000004.pt"] and read_checkpoint(tmp_path / "step_000004.pt")["step"] == 4
    assert main(arguments) == 0 and "step_000012.pt" in names(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for out in ("file", "file/in"):
        with pytest.raises(RunError, match="must be a folder that can be written: (File exists|Not a directory)"):
            train(TrainConfig(**TINY, out=str(tmp_path / out)), lambda step, loss: pytest.fail("it trained in vain"))
    assert (tmp_path / "file").read_text() == "not a folder"


def test_two_runs_do_not_share_a_folder(tmp_path):
    """The second stops before it reads or writes; the lock goes with the run that held it, however that ended."""
    config = TrainConfig(**TINY, out=str(tmp_path))

    def second(step, loss):
        before = names(tmp_path)
        with pytest.raises(RunError, match="is in use by another run. Choose another out, or wait for its end"):
            train(TrainConfig(**TINY, lr=1e-3, out=str(tmp_path)))
        assert names(tmp_path) == before
        if step == 6:
            raise Killed

    with pytest.raises(Killed):
        train(config, second)
    assert train(config).step == 12


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(self, **kwargs):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert train(TrainConfig(**TINY, out=str(tmp_path))).step == 12


# --- stopping


def test_sigterm_saves_and_ends_after_the_step(tmp_path, capsys):
    """Continued, the run ends with the bits of one that was not stopped. What is killed instead loses three steps."""
    whole = train(TrainConfig(**TINY, out=str(tmp_path / "whole")))
    config = TrainConfig(**TINY, out=str(tmp_path / "stopped"))
    before = signal.getsignal(signal.SIGTERM)
    first = train(config, lambda step, loss: signal.raise_signal(signal.SIGTERM) if step == 7 else None)
    # sent after step 7, while a callback ran: step 8 still sees it before it saves
    assert first.step == len(first.losses) == 8 and signal.getsignal(signal.SIGTERM) is before
    assert names(config.out) == ["step_000004.pt", "step_000008.pt"]
    resumed = train(config)
    assert resumed.losses == whole.losses and same(resumed.model, whole.model) and same(resumed.ema, whole.ema)
    assert resumed.step == 12


def test_the_command_line_says_that_it_was_stopped(tmp_path, monkeypatch, capsys):
    def stopped(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr("fmlib.engine.loop.cfm_loss", cfm_loss)
        return cfm_loss(*args, **kwargs)

    monkeypatch.setattr("fmlib.engine.loop.cfm_loss", stopped)
    arguments = [f"--{key}={value}" for key, value in {**TINY, "out": tmp_path}.items()]
    assert main(arguments) == 143
    printed = capsys.readouterr().out
    assert "step 1 of 12 done" in printed and "stopped by SIGTERM: the same command goes on from here" in printed
    assert names(tmp_path) == ["step_000001.pt"]
    assert main(arguments) == 0
    assert "step 12 of 12 done" in (printed := capsys.readouterr().out) and "SIGTERM" not in printed


@pytest.mark.slow
def test_a_second_sigterm_ends_the_process(tmp_path):
    """The step that should see the first may never come, where another process hangs."""
    code = script(
        tmp_path,
        "work.py",
        f"""
        def callback(step, loss):
            os.kill(os.getpid(), 15)
            os.kill(os.getpid(), 15)
            print("still there")
        train(TrainConfig(**{TINY!r}, out=sys.argv[1]), callback)
        """,
    )
    status, output = python(code, tmp_path / "out")
    assert status == -signal.SIGTERM and "still there" not in output


def test_data_far_from_unit_scale_give_a_hint(tmp_path, monkeypatch):
    """Not the engine's own data, which are near it."""
    for data in ("moons", "eight_gaussians", "checkerboard", "digits"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(TrainConfig(**{**TINY, "steps": 2}, data=data, out=str(tmp_path / data)))
    monkeypatch.setitem(SAMPLERS, "moons", lambda n, generator: 1000 * sample_moons(n, generator))
    with pytest.warns(UserWarning, match="the data are far from unit scale") as caught:
        train(TrainConfig(**{**TINY, "steps": 3}, out=str(tmp_path / "far")))
    assert len(caught) == 1


@pytest.mark.parametrize(
    "values",
    [
        TINY,
        {**TINY, "precision": "bf16", "t_dist": "logitnormal", "path": "vp_cosine", "ema_decay": 0.5},
        DIGITS,
        {**DIGITS, "precision": "bf16", "checkpointing": False},
        {**TINY, "data": "digits", "network": "residual"},
    ],
    ids=["moons", "moons bf16", "digits with labels", "digits bf16", "digits without"],
)
def test_the_numbers_are_those_of_the_loop_before(tmp_path, values):
    """Bit for bit, in the same process; the wrong twin has another seed."""
    config = TrainConfig(**values, out=str(tmp_path / "run"))
    run, (losses, model, average) = train(config), frozen_loops.engine(config)
    assert run.losses == losses and same(run.model, model) and same(run.ema, average)
    other = frozen_loops.engine(replace(config, seed=1))
    assert run.losses != other[0] and not same(run.model, other[1])


# --- several processes


def test_the_parts_of_a_batch_do_not_overlap():
    config = TrainConfig(**{**DIGITS, "batch": 500})
    ranks = [Shards(config, rank, 2) for rank in range(2)]
    for epoch in range(2):
        rows = torch.cat([shards.rows(2 * epoch + i) for i in range(2) for shards in ranks])
        assert len(rows) == len(rows.unique()) == 1000
    assert len(load_digits_flow().train) == N_TRAIN
    assert not torch.equal(ranks[0].rows(0), ranks[0].rows(2))  # another epoch, another order
    one = Shards(config, 0, 1)  # how many processes there are does not change the global batch
    assert torch.equal(one.rows(3), torch.cat([shards.rows(3) for shards in ranks]))
    drawn = [Shards(TrainConfig(**TINY), rank, 2).batch(0).x1 for rank in (0, 1, 0)]
    assert not torch.isin(drawn[0], drawn[1]).any() and torch.equal(drawn[0], drawn[2])


@pytest.mark.slow
def test_two_processes_train_and_average_gradients(tmp_path):
    """DDP and FSDP in one job: equal weights on both ranks, whole tensors in the file, the gradient of one process."""
    code = script(
        tmp_path,
        "work.py",
        f"""
        folder, tiny, digits = sys.argv[1], {TINY!r}, {DIGITS!r}

        def weights(run):
            parameters = [p.detach() for p in run.model.parameters()]
            return torch.cat([(p.full_tensor() if hasattr(p, "full_tensor") else p).flatten() for p in parameters])

        def work(parallel):
            config = TrainConfig(**digits, parallel=parallel, out=f"{{folder}}/{{parallel}}")
            first, again = weights(train(config)), weights(train(config))  # the second reads what the first wrote
            assert torch.equal(first, again), "a checkpoint changed the weights"
            every = [torch.empty_like(first) for _ in range(2)]
            dist.all_gather(every, first)
            assert torch.equal(*every), "the ranks differ"
            right, wrong = check_gradient(TrainConfig(**digits, parallel=parallel))
            assert right < 1e-6 and wrong > 1e-2, (right, wrong)

        work("ddp")
        work("fsdp")
        try:
            train(TrainConfig(**{{**tiny, "batch": 15}}, out=folder))
        except RunError as error:
            assert "batch = 15, 2 processes" in str(error)
        else:
            raise AssertionError("an odd batch was taken")
        leave()
        """,
    )
    status, output = python(code, tmp_path, processes=2)
    assert status == 0, output
    assert output.count("resumed from") == 2  # rank 0 alone speaks
    for parallel in ("ddp", "fsdp"):
        state = read_checkpoint(tmp_path / parallel / "step_000012.pt")
        assert state["world"] == 2 and all(isinstance(x, torch.Tensor) for x in state["model"].values())
        for rng in state["rng"].values():
            assert len(rng) == 2 and not torch.equal(*rng)
        assert load_ema(str(tmp_path / parallel))(0.5, torch.randn(3, 64), 1).shape == (3, 64)
    with pytest.raises(RunError, match="was written by 2 processes, got 1 now"):
        train(TrainConfig(**DIGITS, out=str(tmp_path / "ddp")))
    # DDP and FSDP do the same arithmetic, up to the order of sums, which twelve steps of the optimiser magnify
    ddp, fsdp = (read_checkpoint(tmp_path / p / "step_000012.pt")["losses"] for p in ("ddp", "fsdp"))
    torch.testing.assert_close(ddp, fsdp, rtol=1e-3, atol=0)
    assert not torch.allclose(ddp[1:], fsdp[:-1], rtol=1e-3, atol=0)


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_the_next_start_resumes(tmp_path):
    code = script(
        tmp_path,
        "work.py",
        f"""
        def callback(step, loss):
            if step == int(sys.argv[2]) and dist.get_rank() == 1:
                os.kill(os.getpid(), 9)
        writes = []
        import fmlib.engine.checkpoints as engine
        write = engine.write_checkpoint
        engine.write_checkpoint = lambda state, path: (writes.append(path), write(state, path))
        train(TrainConfig(**{TINY!r}, out=sys.argv[1]), callback)
        print(f"rank {{dist.get_rank()}} wrote {{len(writes)}}")
        leave()
        """,
    )
    killed = tmp_path / "killed"
    status, output = python(code, killed, 7, processes=2)
    assert status != 0 and "Signal 9 (SIGKILL)" in output
    assert names(killed) == ["step_000004.pt"]
    for folder, message in ((killed, "rank 0 wrote 2"), (tmp_path / "whole", "rank 0 wrote 3")):
        status, output = python(code, folder, 0, processes=2)
        assert status == 0 and message in output and "rank 1 wrote 0" in output, output
    resumed, whole = (read_checkpoint(folder / "step_000012.pt") for folder in (killed, tmp_path / "whole"))
    assert torch.equal(resumed["losses"], whole["losses"])
    assert all(torch.equal(resumed["ema"][name], weight) for name, weight in whole["ema"].items())


@pytest.mark.slow
def test_the_gradient_check_of_the_command_line():
    status, output = python("-m", "fmlib.train", "--check-gradient", "--device", "cpu", processes=2)
    assert status == 0, output
    assert "gradient of 2 processes against one: relative difference" in output and "wrong twin" in output
    with pytest.raises(RunError, match="start it with torchrun"):
        check_gradient(TrainConfig(device="cpu"))


# --- GPU


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_low_precision_on_a_gpu(tmp_path, precision):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU: low precision there is not tested on this machine")
    config = {**DIGITS, "device": "cuda", "precision": precision, "steps": 40, "lr": 1e-3}
    run = train(TrainConfig(**config, out=str(tmp_path)))
    assert sum(run.losses[-10:]) < sum(run.losses[:10])
    assert train(TrainConfig(**config, out=str(tmp_path))).losses == run.losses
