import os

import pytest
import torch

from fmlib import rectified_flow_path, ve_path, vp_cosine_path, vp_linear_path

torch.set_num_threads(1)
SEED = int(os.environ.get("TEST_SEED", 0))  # the tests hold for other seeds too

PATHS = [rectified_flow_path(), vp_cosine_path(), vp_linear_path(), ve_path()]


@pytest.fixture(params=PATHS, ids=lambda p: p.name)
def path(request):
    return request.param


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(SEED)
