"""Tokens, scopes, enrolment, and local mode that serves only this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from foundation.errors import InvalidConfig
from server.app import create_app
from server.settings import Settings
from tests.server import samples
from tests.server.helpers import AgentClient, EnrolAgent, FakeClock, local_client

ADMIN = "an-admin-token-of-some-length"


@pytest.fixture
def app(settings: Settings, clock: FakeClock) -> Iterator[FastAPI]:
    guarded = settings.model_copy(update={"auth": "tokens", "admin_token": ADMIN})
    app = create_app(guarded, clock=clock, supervise=False)
    yield app
    app.state.context.database.dispose()


def caller(app: FastAPI, secret: str | None) -> TestClient:
    return local_client(app, headers={"Authorization": f"Bearer {secret}"} if secret else {})


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return caller(app, ADMIN)


def token_of(client: TestClient, scope: str) -> dict[str, Any]:
    answer = client.post("tokens", json={"name": f"a {scope}", "scope": scope})
    assert answer.status_code == 201
    found: dict[str, Any] = answer.json()
    return found


def test_without_a_token_only_health_answers(app: FastAPI) -> None:
    nobody = caller(app, None)
    answer = nobody.get("studies")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert nobody.get("health").status_code == 200
    assert caller(app, "wrong").get("studies").status_code == 401
    assert nobody.get("studies", headers={"Authorization": "Basic abc"}).status_code == 401


def test_scopes(app: FastAPI, client: TestClient, enrol: EnrolAgent) -> None:
    user, agent = caller(app, token_of(client, "user")["secret"]), enrol()
    assert user.post("studies", json=samples.spec()).status_code == 201
    refused = user.post("tokens", json={"name": "x", "scope": "admin"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert refused.json()["message"] == "this needs a token of scope admin, yours is user"
    assert agent.http.get("studies").status_code == 403
    assert agent.http.post("devices/tokens", json={}).status_code == 403
    assert agent.lease() is None
    assert user.post("agents/lease", json={"wait_s": 0}).status_code == 403
    artifacts_only = caller(app, token_of(client, "agent")["secret"])
    assert artifacts_only.head("artifacts/" + "0" * 64).status_code == 404
    assert artifacts_only.post("agents/lease", json={"wait_s": 0}).status_code == 403


def test_a_revoked_token_stops_working(app: FastAPI, client: TestClient) -> None:
    token = token_of(client, "user")
    assert [row["id"] for row in client.get("tokens").json()] == [token["id"]]
    assert "secret" not in client.get("tokens").json()[0]
    assert client.delete(f"tokens/{token['id']}").status_code == 204
    assert caller(app, token["secret"]).get("studies").status_code == 401


def test_secrets_are_stored_hashed(app: FastAPI, client: TestClient, enrol: EnrolAgent) -> None:
    secret = token_of(client, "user")["secret"]
    enrol()
    connection = app.state.context.database.engine.raw_connection()
    dump = "\n".join(connection.driver_connection.iterdump())
    connection.close()
    assert secret not in dump
    assert "hld_" not in dump
    assert "hle_" not in dump


def test_an_enrolment_token_is_good_once(client: TestClient, clock: FakeClock) -> None:
    token = client.post("devices/tokens", json={"expires_in_s": 60}).json()["token"]
    body = {"token": token, "facts": samples.facts()}
    assert client.post("agents/enrol", json=body).status_code == 201
    again = client.post("agents/enrol", json=body)
    assert (again.status_code, again.json()["code"]) == (410, "token_gone")
    late = client.post("devices/tokens", json={"expires_in_s": 60}).json()["token"]
    clock.advance(61)
    expired = client.post("agents/enrol", json={**body, "token": late})
    assert expired.status_code == 410
    assert "expired at 2026-01-05 09:01 UTC" in expired.json()["message"]
    assert client.post("agents/enrol", json={**body, "token": "made up"}).status_code == 401


def test_enrolling_again_keeps_the_device_and_revokes_the_old_credential(enrol: EnrolAgent, client: TestClient) -> None:
    first = enrol("phone-1")
    second = enrol("phone-1")
    assert second.device_id == first.device_id
    assert second.lease() is None
    assert first.http.post("agents/lease", json={"wait_s": 0}).status_code == 401
    assert len(client.get("devices").json()) == 1


def test_a_name_of_other_hardware_is_refused_and_the_token_stays_good(enrol: EnrolAgent, client: TestClient) -> None:
    enrol("phone-1")
    token = client.post("devices/tokens", json={}).json()["token"]
    body = {"token": token, "facts": samples.facts("phone-1", model="Pixel 9")}
    answer = client.post("agents/enrol", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "device_name_taken")
    body["facts"] = samples.facts("phone-2", model="Pixel 9")
    assert client.post("agents/enrol", json=body).status_code == 201


def test_devices_come_and_go(enrol: EnrolAgent, client: TestClient, clock: FakeClock) -> None:
    agent: AgentClient = enrol("phone-1")
    assert client.get("devices").json()[0]["state"] == "online"
    clock.advance(61)
    assert client.get(f"devices/{agent.device_id}").json()["state"] == "offline"
    agent.lease()
    assert client.get(f"devices/{agent.device_id}").json()["state"] == "online"


@pytest.mark.parametrize(
    ("client_host", "headers", "why"),
    [
        ("192.168.1.5", {}, "serves only this machine, not 192.168.1.5"),
        ("127.0.0.1", {"Host": "evil.example"}, "served only as localhost or 127.0.0.1"),
        ("127.0.0.1", {"Origin": "https://evil.example"}, "a page of https://evil.example may not call"),
    ],
)
def test_local_mode_answers_this_machine_only(
    settings: Settings, client_host: str, headers: dict[str, str], why: str
) -> None:
    local = create_app(settings, supervise=False)
    answer = TestClient(local, base_url="http://127.0.0.1", client=(client_host, 1)).get(
        "/api/v1/studies", headers=headers
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "local_only")
    assert why in answer.json()["message"]
    local.state.context.database.dispose()


def test_settings_refuse_an_open_door() -> None:
    with pytest.raises(InvalidConfig, match="without tokens the coordinator binds to loopback only, got host"):
        Settings(host="0.0.0.0")
    with pytest.raises(InvalidConfig, match="at least 16 characters"):
        Settings(auth="tokens", admin_token="short")
    found = Settings.from_environment({"HILNAS_HOST": "0.0.0.0", "HILNAS_PORT": "80", "HILNAS_ADMIN_TOKEN": ADMIN})
    assert (found.auth, found.port) == ("tokens", 80)
    assert ADMIN not in repr(found)
    with pytest.raises(InvalidConfig, match="HILNAS_PORT: input should be a valid integer"):
        Settings.from_environment({"HILNAS_PORT": "eighty"})
