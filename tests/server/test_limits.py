"""What a request may cost before anybody knows who sent it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

ENROL = "/api/v1/agents/enrol"
JSON = {"Content-Type": "application/json"}


def test_a_large_body_without_a_token_is_refused(client: TestClient) -> None:
    answer = client.post(ENROL, content=b'{"token": "' + b"x" * (1 << 20) + b'"}', headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5000 + b"]" * 5000, b'{"token": ' + b"9" * 400 + b"}", b'{"token": "' + b"x" * 70_000 + b'"}',
        b'{"token": "\\u0000"}', b'{"token": "\\ud800"}', b'{"token": NaN}', b"\xff\xfe", b'{"token"',
    ],
)  # fmt: skip
def test_a_senseless_body_is_answered_with_a_sentence(client: TestClient, body: bytes) -> None:
    answer = client.post(ENROL, content=body, headers=JSON)
    assert 400 <= answer.status_code < 500
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/jobs?offset=99999999999999999999999", "/jobs?study_id=%00", "/trainings?offset=9223372036854775808",
        "/studies/a%00b", "/trials/" + "x" * 5000,
    ],
)  # fmt: skip
def test_an_address_that_no_database_takes_is_answered(client: TestClient, path: str) -> None:
    assert 400 <= client.get(f"/api/v1{path}").status_code < 500
