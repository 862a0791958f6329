"""Which backend a study's programs are compiled for: refused with a sentence where nothing could run them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient

from nas.export.backends import BACKENDS, Backend
from tests.server import samples
from tests.server.helpers import EnrolAgent


class Npu(Backend):
    name: ClassVar[str] = "npu"
    title: ClassVar[str] = "an accelerator that our runner does not bring"
    min_sqnr_db: ClassVar[Mapping[str, float]] = {"8da4w": 10.0}
    delegates: ClassVar[tuple[str, ...]] = ("NpuBackend",)


@pytest.fixture
def npu() -> Iterator[None]:
    BACKENDS.add("npu", Npu())
    yield
    BACKENDS._parts.pop("npu")


def start(client: TestClient, **changes: Any) -> tuple[int, str]:
    answer = client.post("studies", json=samples.spec(**changes))
    return answer.status_code, answer.json().get("message", "")


def test_an_unknown_backend_is_refused_by_name(client: TestClient) -> None:
    status, message = start(client, backend="magic")
    assert (status, message) == (400, "unknown backend 'magic'; known: xnnpack, portable")
    target = {"name": "desk", "kind": "host", "backend": "magic"}
    assert start(client, targets=[target]) == (status, message)


def test_a_backend_that_lacks_the_quantization_is_refused(client: TestClient) -> None:
    status, message = start(client, backend="portable")
    assert status == 400
    assert message == "backend portable does not run '8da4w' programs; it runs fp32"


def test_portable_needs_nothing_that_a_device_may_lack(client: TestClient, enrol: EnrolAgent) -> None:
    assert start(client, backend="portable", quantization="fp32") == (201, "")
    enrol("bare", details={"delegates": []})
    assert start(client, backend="portable", quantization="fp32") == (201, "")
    status, message = start(client)
    assert status == 400
    assert "no enrolled device can run programs of backend xnnpack" in message
    assert "needs a runner with XnnpackBackend; available: none" in message


def test_a_backend_that_no_enrolled_device_runs_is_refused(client: TestClient, enrol: EnrolAgent, npu: None) -> None:
    sentence = (
        "no enrolled device can run programs of backend npu: it needs a runner with NpuBackend; available:"
        " XnnpackBackend"
    )
    assert start(client, backend="npu") == (400, sentence)
    desk = enrol("desk")
    assert start(client, backend="npu") == (400, sentence)
    phone = enrol("phone", kind="android", model="S26", details={"delegates": ["NpuBackend", "XnnpackBackend"]})
    assert start(client, backend="npu") == (201, "")
    assert start(client, backend="npu", devices=[phone.device_id]) == (201, "")
    status, message = start(client, backend="npu", devices=[phone.device_id, desk.device_id])
    assert status == 400
    assert message.startswith(f"no enrolled device {desk.device_id} can run programs of backend npu")
    both = [{"name": "desk", "kind": "host"}, {"name": "phone", "model": "S26", "backend": "npu"}]
    assert start(client, targets=both) == (201, "")
    wrong = [{"name": "desk", "kind": "host", "backend": "npu"}]
    assert start(client, targets=wrong)[1].startswith("no enrolled device of target desk can run programs of")


@pytest.mark.parametrize("said", ["XnnpackBackend", 5, None, {"XnnpackBackend": 1}])
def test_nonsense_about_delegates_is_taken_as_our_runner(client: TestClient, enrol: EnrolAgent, said: Any) -> None:
    enrol("odd", details={"delegates": said})
    assert start(client) == (201, "")
