"""The script that lesson 04 begins with: complete as it stands, in plain PyTorch, and it trains a flow."""

from pathlib import Path

import jupytext
import pytest
import torch

from fmlib import nearest_distance, sample_moons

LESSON = Path(__file__).parents[1] / "notebooks" / "src" / "04_training.py"


def script() -> str:
    return "\n".join(c.source for c in jupytext.read(LESSON).cells if "script" in c.metadata.get("tags", []))


def distance_to_moons(text: str) -> float:
    """Run it alone; how far its samples are from the moons."""
    torch.manual_seed(0)
    names = {}
    exec(compile(text, "script", "exec"), names)
    return nearest_distance(names["x"][:2000], sample_moons(5000))


def test_it_is_short_and_needs_pytorch_alone():
    lines = [line for line in script().splitlines() if line.strip()]
    assert 15 < len(lines) <= 30
    assert {line.split()[1] for line in lines if line.startswith(("import ", "from "))} == {"math", "torch"}


@pytest.mark.slow
def test_it_trains_and_samples():
    """Wrong twins: the sign of the target, and that of the step."""
    text = script()
    assert distance_to_moons(text) < 0.2
    for right, wrong in (("(x1 - x0)", "(x0 - x1)"), ("x + net(", "x - net(")):
        assert right in text and distance_to_moons(text.replace(right, wrong)) > 0.4
