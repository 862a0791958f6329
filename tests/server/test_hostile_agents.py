"""What an agent that lies can do to others: nothing. Its kinds of jobs come from its token, its plans are made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from contracts.client import CoordinatorClient
from contracts.plan import Plan, Prefix
from device_agents.agent import Agent
from device_agents.devices.host import HostDevice
from device_agents.devices.replay import ReplayDevice
from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from server.app import create_app
from server.context import Context
from server.settings import Settings
from server.store import SqlStudyStore
from tests.server import samples
from tests.server.helpers import EnrolAgent, local_client

ESCAPES = ("../../../../tmp/evil", "../../evilout/new/x", "/etc/passwd", "AB" * 32, "ab" * 31, "", "ab" * 32 + "\n")


@pytest.fixture
def store(ctx: Context, study_id: str) -> SqlStudyStore:
    return SqlStudyStore(ctx, study_id)


def token_of(client: TestClient, **request: Any) -> dict[str, Any]:
    answer = client.post("devices/tokens", json=request)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def enrolment(token: str, *serves: str) -> dict[str, Any]:
    return {"token": token, "facts": samples.facts(), "serves": list(serves)}


def test_a_token_says_what_its_agent_may_serve(client: TestClient) -> None:
    token = token_of(client, serves=["measure"])["token"]
    refused = client.post("agents/enrol", json=enrolment(token, "measure", "train"))
    assert refused.status_code == 403
    assert refused.json()["code"] == "kind_not_allowed"
    assert "allows measure jobs, not train jobs" in refused.json()["message"]
    assert client.get("devices").json() == []
    assert client.post("agents/enrol", json=enrolment(token, "measure")).status_code == 201, "the token was spent"
    assert client.get("devices").json()[0]["serves"] == ["measure"]


def test_an_unknown_or_empty_kind_is_malformed(client: TestClient) -> None:
    assert client.post("devices/tokens", json={"serves": ["mine"]}).status_code == 422
    assert client.post("devices/tokens", json={"serves": []}).status_code == 422
    token = token_of(client)["token"]
    assert client.post("agents/enrol", json=enrolment(token)).status_code == 422


def test_the_local_user_s_token_allows_both_kinds(client: TestClient) -> None:
    made = token_of(client)
    assert made["serves"] == ["measure", "train"]
    assert client.post("agents/enrol", json=enrolment(made["token"], "train")).status_code == 201


def test_with_tokens_training_must_be_allowed_by_name(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"auth": "tokens", "admin_token": "a" * 24}), supervise=False)
    client = local_client(app, headers={"Authorization": "Bearer " + "a" * 24})
    assert token_of(client)["serves"] == ["measure"]
    assert client.post("agents/enrol", json=enrolment(token_of(client)["token"], "train")).status_code == 403
    trainer = token_of(client, serves=["train"])["token"]
    assert client.post("agents/enrol", json=enrolment(trainer, "train")).status_code == 201
    app.state.context.database.dispose()


@pytest.mark.parametrize("block", ESCAPES)
def test_a_training_result_whose_plan_names_a_path_is_refused(
    store: SqlStudyStore, enrol: EnrolAgent, client: TestClient, block: str
) -> None:
    measure = samples.job("evil", form="trained").model_dump(mode="json")
    measure["plan"]["chain"][0]["block"] = block
    answer = bring(store, enrol, client, measure)
    assert answer.status_code == 422, answer.text
    assert client.get("jobs", params={"state": "queued"}).json() == []


@pytest.mark.parametrize(
    "changes",
    [{"verify_digests": False}, {"blocks_dir": "/home"}, {"prefix": {"save": "/root/.bashrc", "length": 4}},
     {"prefix": {"restore": "../x"}}],
)  # fmt: skip
def test_a_training_result_with_a_dangerous_plan_is_refused(
    store: SqlStudyStore, enrol: EnrolAgent, client: TestClient, changes: dict[str, Any]
) -> None:
    measure = samples.job("evil", form="trained").model_dump(mode="json")
    measure["plan"] |= changes
    assert bring(store, enrol, client, measure).status_code == 422


def test_the_coordinator_makes_the_plan_of_a_trained_program(
    store: SqlStudyStore, enrol: EnrolAgent, client: TestClient
) -> None:
    """Of the trainer's plan only the vocabulary and the numbers of the parity check are used."""
    check = {"tokens": [1, 2], "chunks": [2], "probe_ids": [0], "expected": [[0.5]], "expected_argmax": [0],
             "max_abs_error": 0.1}  # fmt: skip
    measure = samples.job("evil", form="trained", max_half_width=9.0, max_repeats=99).model_dump(mode="json")
    measure["plan"] |= {"check": check, "prefix": {"save": "mine", "length": 4}, "vocab_size": 4096}
    measure["beside"] = measure["plan"]
    phone = enrol("phone")
    assert bring(store, enrol, client, measure).json()["accepted"]
    job = (phone.lease() or {})["job"]
    plan = job["plan"]
    arch = ArchConfig.from_dict(samples.arch())
    assert [step["block"] for step in plan["chain"]] == [samples.training()["program"]]
    assert plan["chain"][0]["role"] == "model"
    assert len(plan["chain"][0]["states"]) == arch.depth
    assert (plan["hidden_size"], plan["vocab_size"], plan["verify_digests"]) == (arch.d_model, 4096, True)
    assert (plan["prefix"], job["beside"], plan["blocks_dir"]) == (None, None, "")
    assert plan["protocol"]["name"] == store.study().spec.protocol
    assert (job["max_repeats"], job["max_half_width"], job["form"]) == (8, 0.10, "trained")
    assert plan["check"]["expected"] == [[0.5]]


def bring(store: SqlStudyStore, enrol: EnrolAgent, client: TestClient, measure: dict[str, Any]) -> Any:
    trainer = enrol("trainer", serves=("train",))
    trial = store.add_trial({}, samples.candidate())
    client.post(f"trials/{trial.id}/train", json={})
    return trainer.result(trainer.lease() or {}, training={**samples.training(), "measure": measure})


@pytest.mark.parametrize("name", ["/abs", "../up", "a/b", ".hidden", "..", "a\\b", "", "a b", "-rf", "a\x00b", "a\n"])
def test_a_prefix_is_a_plain_file_name(name: str) -> None:
    for fields in ({"save": name, "length": 4}, {"restore": name}):
        with pytest.raises(ValidationError):
            Prefix.model_validate(fields)
    assert Prefix(save="prompt-1.prefix", length=4).save == "prompt-1.prefix"


def test_a_plan_from_the_wire_names_no_folder_and_verifies_its_blocks() -> None:
    fields = samples.plan().model_dump(mode="json")
    for change in ({"blocks_dir": "/tmp"}, {"verify_digests": False}, {"vocab_size": 0}):
        with pytest.raises(ValidationError):
            Plan.model_validate(fields | change)
    assert samples.plan().to_runner("/home/agent/blocks")["blocks_dir"] == "/home/agent/blocks"


@pytest.mark.parametrize("digest", ESCAPES)
def test_an_agent_refuses_a_digest_that_is_none_before_any_path_is_made(tmp_path: Path, digest: str) -> None:
    runner = tmp_path / "runner"
    runner.write_text("#!/bin/sh\necho test\n")
    runner.chmod(0o755)
    home, before = tmp_path / "home", sorted(tmp_path.rglob("*"))
    client = CoordinatorClient("http://127.0.0.1:9")
    with pytest.raises(InvalidConfig, match="sha256"):
        client.fetch(digest, home / "blocks" / f"{digest}.pte")
    agent = Agent("http://127.0.0.1:9", ReplayDevice({"facts": samples.facts()}), tmp_path)
    with pytest.raises(InvalidConfig, match="sha256"):
        agent.fetch_blocks([digest])
    device = HostDevice(tmp_path / "device", runner)
    with pytest.raises(InvalidConfig, match="sha256"):
        device.has_block(digest)
    with pytest.raises(InvalidConfig, match="sha256"):
        device.add_blocks({digest: runner})
    made = {tmp_path / "outbox", tmp_path / "device"}
    assert sorted(tmp_path.rglob("*")) == sorted({*before, *made})
