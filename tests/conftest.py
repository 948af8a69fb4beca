"""Fixtures of all tests. torch and fmlib are imported when a test needs them: the runner itself starts without them."""

import os

import pytest

# Tests that start make do so as a reader does, not as a part of the `make test` that runs them.
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKE_TERMOUT", "MAKE_TERMERR"):
    os.environ.pop(name, None)

# The lessons that nbval runs take their stored weights; missing or stale ones are an error, see fmlib/weights.py.
os.environ.setdefault("TRAIN", "stored")

SEED = int(os.environ.get("TEST_SEED", 0))  # the tests hold for other seeds too


@pytest.fixture(params=["rectified_flow", "vp_cosine", "vp_linear", "ve"])
def path(request):
    import fmlib

    return getattr(fmlib, f"{request.param}_path")()


@pytest.fixture(autouse=True)
def seeded():
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
