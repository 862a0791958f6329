"""What every backend promises before anything is compiled."""

from __future__ import annotations

import pytest

from foundation.errors import InvalidConfig
from nas.export.backends import BACKENDS
from nas.export.blocks import BlockSpec, ProgramForm
from search_space.cost import QUANTIZATIONS


@pytest.mark.parametrize("name", BACKENDS)
class TestBackend:
    def test_it_serves_known_quantizations_only(self, name: str) -> None:
        served = set(BACKENDS[name].min_sqnr_db)
        assert served and served <= set(QUANTIZATIONS)
        for quantization in QUANTIZATIONS:
            if quantization in served:
                assert ProgramForm(quantization, name).backend == name
            else:
                with pytest.raises(InvalidConfig, match=f"{name} does not run .{quantization}.*it runs fp32"):
                    ProgramForm(quantization, name)

    def test_it_is_known_by_its_name(self, name: str) -> None:
        assert BACKENDS[name].name == name
        assert BACKENDS[name].title


def test_blocks_of_two_backends_have_different_keys_and_equal_weights() -> None:
    xnnpack, portable = (BlockSpec("ffn", 64, "fp32", "{}", name) for name in ("xnnpack", "portable"))
    assert xnnpack.key != portable.key
    assert xnnpack.seed == portable.seed


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match="unknown backend 'vulkan'; known: xnnpack, portable"):
        ProgramForm("fp32", "vulkan")
