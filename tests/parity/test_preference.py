"""Preference losses against TRL's own trainer."""

from __future__ import annotations

import pytest

pytest.importorskip("trl")


@pytest.mark.filterwarnings("ignore")
def test_ln_dpo_is_trl_s_sigmoid_norm() -> None:
    from benchmarks.preference import losses_compared

    assert max(losses_compared().values()) < 1e-5
