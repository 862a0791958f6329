"""What cannot run is refused when a study is created, with what would run: nothing dies in the background."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from contracts.plan import Protocol
from contracts.study import StudySpec
from foundation.errors import InvalidConfig
from nas.admission import check_study, measured_by
from tests.server import samples
from tests.server.helpers import EnrolAgent

BUDGET = {"metric": "params"}


def space_of(mixer: dict[str, Any], ffn: int, d_model: int = 64) -> dict[str, Any]:
    return {"d_model": d_model, "vocab_size": 256, "depth": 2, "mixers": [mixer], "ffn": [ffn]}


def gqa(num_heads: int, head_dim: int) -> dict[str, Any]:
    return {"kind": "gqa", "num_heads": num_heads, "num_kv_heads": 1, "head_dim": head_dim}


REFUSED = [
    ({"seed": -1}, "seed: input should be greater than or equal to 0, got -1"),
    ({"seed": 2**40}, "seed: input should be less than or equal to 2147483647, got 1099511627776"),
    ({"seed": 2**32 - 3}, "seed: input should be less than or equal to 2147483647"),
    ({"space_options": {"depth": "6"}}, "debug_space: depth must be a whole number of at least 1, got '6'"),
    ({"space_options": {"depth": 2.5}}, "debug_space: depth must be a whole number of at least 1, got 2.5"),
    ({"space_options": {"depth": 0}}, "debug_space: depth must be a whole number of at least 1, got 0"),
    ({"space_options": {"d_model": 100}}, "d_model must be a multiple of 32"),
    ({"space_options": {"colour": 1}}, "debug_space: options ['colour'] do not fit; known options: depth"),
    ({"quality": {"estimator": "oracle"}}, "unknown quality estimator 'oracle'"),
    ({"quality": {"options": {"tasks": ["chess"]}}}, "unknown task 'chess'; known tasks: in_context_recall"),
    ({"quality": {"width": 17}}, "option width: input should be a multiple of 32, got '17'"),
    ({"quality": {"options": {"width": 48}}}, "input should be a multiple of 32, got '48'"),
    ({"max_quality": 0}, "max_quality is 0, so no candidate would be judged: give at least 1, or leave it out"),
    ({"max_quality": -3}, "max_quality: input should be greater than or equal to 0, got -3"),
    ({"threads": 0}, "threads: input should be greater than or equal to 1, got 0"),
    ({"threads": 100_000}, "threads: input should be less than or equal to 256, got 100000"),
    ({"name": "   "}, "a study's name needs letters or digits, without control characters; got '   '"),
    ({"name": "a\nb"}, "a study's name needs letters or digits, without control characters; got 'a\\nb'"),
    ({"name": "a\0b"}, "text cannot hold the character NUL"),
    ({"objectives": [BUDGET, BUDGET]}, "objective params is given twice; give it once"),
    ({"budgets": {f"cache_bytes@{'9' * 400}": 1}}, "cache_bytes takes a context of 1 to 999999999 tokens"),
    ({"budgets": {"decode_ms@512": 1}},
     "protocol quick does not measure decode_ms@512; protocol screening does"),
    ({"objectives": [{"metric": "decode_ms@1000000"}]},
     "protocol quick does not measure decode_ms@1000000; measured are decode_ms@512, decode_ms@4096 (screening);"
     " decode_ms@256, decode_ms@1024 (quick)"),
    ({"protocol": "screening", "objectives": [{"metric": "quality"}], "budgets": {"peak_rss_bytes": 1}},
     "protocol screening does not measure peak_rss_bytes; protocol quick or full does"),
    ({"targets": [{"name": "a", "kind": "host", "budgets": {"load_ms": 1, "ttft_ms@7": 3}}]},
     "protocol quick does not measure ttft_ms@7; measured are ttft_ms@512 (screening); ttft_ms@256 (quick)"),
    ({"space": space_of(gqa(2, 32), 33)},
     "layer 0: swiglu(33) has a matrix with 33 inputs, and 8da4w packs weights in groups of 32: the nearest width is"
     " 32; 8da8w and fp32 take any width"),
    ({"space": space_of(gqa(2, 32), 48)}, "layer 0: swiglu(48) has a matrix with 48 inputs"),
    ({"space": space_of(gqa(2, 32), 100)}, "the nearest width is 96"),
    ({"space": space_of(gqa(3, 8), 64)}, "layer 0: gqa(3/1x8) has a matrix with 24 inputs"),
    ({"space": space_of(gqa(3, 40), 64)}, "layer 0: gqa(3/1x40) has a matrix with 120 inputs"),
    ({"space": space_of(gqa(1, 2), 64)}, "layer 0: gqa(1/1x2) has a matrix with 2 inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_a_study_that_cannot_run_is_refused(client: TestClient, changes: dict[str, Any], sentence: str) -> None:
    answer = client.post("studies", json=samples.spec(**changes))
    assert answer.status_code in (400, 422), answer.text
    assert sentence in answer.json()["message"]
    assert client.get("studies").json() == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize("field", ['"precision"', '"max_trials"', '"budgets": {"params"', '"space_options": {"depth"'])
def test_a_number_that_is_not_finite_is_refused(client: TestClient, field: str, number: str) -> None:
    body = f'{{"name": "s", "objectives": [{{"metric": "params"}}], {field}: {number}{"}" * (field.count("{") + 1)}'
    answer = client.post("studies", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and len(answer.json()["message"]) < 200
    assert client.get("studies").json() == []


@pytest.mark.parametrize("quantization", ["8da8w", "fp32"])
def test_other_quantizations_take_any_width(client: TestClient, quantization: str) -> None:
    spec = samples.spec(space=space_of(gqa(3, 8), 33), quantization=quantization)
    assert client.post("studies", json=spec).status_code == 201


def test_threads_that_no_device_has(client: TestClient, enrol: EnrolAgent) -> None:
    spec = samples.spec(threads=64)
    assert client.post("studies", json=spec).status_code == 201  # a device with 64 cores may still come
    enrol("small", cores=2)
    answer = client.post("studies", json=spec)
    assert answer.json()["message"] == (
        "no enrolled device has 64 cores for 64 threads (small has 2): give at most 2"
    )
    target = {"name": "desk", "kind": "host", "threads": 3}
    answer = client.post("studies", json=samples.spec(targets=[target]))
    assert "no enrolled device of target desk has 3 cores for 3 threads" in answer.json()["message"]
    enrol("large", cores=64)
    assert client.post("studies", json=spec).status_code == 201


def test_a_part_that_fails_in_its_own_way_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.samplers import SAMPLERS

    def broken(*_: Any) -> Any:
        raise TypeError("no such thing")

    with SAMPLERS.temporarily({"broken": broken}), pytest.raises(InvalidConfig) as caught:
        check_study(StudySpec.model_validate(samples.spec(sampler="broken")))
    assert str(caught.value) == "sampler broken cannot be built: TypeError: no such thing"


def test_memory_is_measured_where_the_protocol_says_so() -> None:
    protocol = Protocol(prefill_lengths=[8], decode_contexts=[9])
    assert {"prefill_ms@8", "ttft_ms@8", "decode_ms@9", "itl_ms_p95@9", "load_ms"} <= set(measured_by(protocol))
    assert "peak_rss_bytes" not in measured_by(protocol)
