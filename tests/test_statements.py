"""Statements of the lessons and cards that no lesson computes: each is computed here, beside a wrong twin."""

import pytest
import torch

from fmlib import (
    moons_mixture,
    off_support_share,
    rectified_flow_path,
    sample_moons,
    sliced_w2,
)

RF = rectified_flow_path()


def test_stray_points_are_seen_where_a_distance_is_not_moved():
    """3 % of points between the moons: sliced W2 stays near its floor, the share off the support is three times 1 %."""
    moons = moons_mixture()
    log_prob = lambda x: moons.log_prob(RF, 1.0, x)
    real, fresh = sample_moons(20_000), sample_moons(20_000)
    stray = fresh.clone()
    stray[:600] += 0.7 * torch.randn(600, 2)
    share = {name: off_support_share(x, real, log_prob) for name, x in (("fresh", fresh), ("stray", stray))}
    assert abs(share["fresh"].mean - 0.01) < 5 * 1.42 * share["fresh"].std_error  # both thresholds and share are drawn
    assert share["stray"].mean > 2.5 * share["fresh"].mean
    assert sliced_w2(stray, real) < 3 * max(sliced_w2(fresh, real), 0.008)
    none = off_support_share(real[:50], real, lambda x: torch.zeros(len(x)))
    assert none.mean == 0 and 0 < none.std_error < 0.03
    with pytest.raises(ValueError, match="quantile must be a finite number above 0 and at most 1, got 0"):
        off_support_share(real, fresh, log_prob, 0)
