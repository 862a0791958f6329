"""What deploys the server is whole: compose file, packaged data, OpenAPI with an answer for every error."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from fastapi.testclient import TestClient

from server.app import create_app
from server.dashboard import STATIC
from server.settings import Settings
from tests.server import seed_demo
from tests.server.helpers import local_client

ROOT = Path(__file__).parents[2]


def test_the_compose_file_is_valid_and_names_a_target_that_exists() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "server/Dockerfile").read_text(), re.MULTILINE))
    assert set(compose["services"]) == {"database", "coordinator", "agent"}
    assert {compose["services"][name]["build"]["target"] for name in ("coordinator", "agent")} <= targets
    assert compose["services"]["agent"]["profiles"] == ["agent"]


def test_the_image_holds_every_package_of_the_distribution() -> None:
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "server/Dockerfile").read_text(), re.MULTILINE))
    assert {pattern.removesuffix("*") for pattern in include} <= copied


def test_the_study_to_look_at_the_dashboard_with_can_be_made(tmp_path: Path) -> None:
    seed_demo.main(tmp_path)
    client = local_client(create_app(Settings(var=tmp_path), supervise=False))
    (study,) = client.get("studies").json()
    assert sum(study["trials"].values()) == seed_demo.NUM_TRIALS
    assert client.get(f"studies/{study['id']}/front").json()["members"]


def test_the_dashboard_serves_itself_and_deep_links(client: TestClient) -> None:
    for path in ("/", "/studies/study-1", "/studies/study-1/anything"):
        page = client.get(f"http://127.0.0.1{path}")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "script-src" not in page.headers["content-security-policy"]
    for asset in re.findall(r"/static/[\w.]+", page.text):
        assert client.get(f"http://127.0.0.1{asset}").status_code == 200


def test_every_module_the_dashboard_imports_is_there() -> None:
    for script in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([\w.]+)"', script.read_text()):
            assert (STATIC / name).is_file(), f"{script.name} imports {name}"
        assert "http://" not in script.read_text().replace("http://www.w3.org", ""), "nothing comes from elsewhere"


def test_every_operation_says_how_it_fails(client: TestClient) -> None:
    schema = client.get("http://127.0.0.1/openapi.json").json()
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert len(operations) >= 28
    for operation in operations:
        assert {"401", "403", "422"} <= set(operation["responses"]), operation["operationId"]


def test_the_examples_of_the_api_work(client: TestClient) -> None:
    schema = client.get("http://127.0.0.1/openapi.json").json()
    bodies = {
        path: operation["requestBody"]["content"]["application/json"]["schema"].get("examples")
        for path, operations in schema["paths"].items()
        for operation in operations.values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    for path in ("studies", "agents/enrol", "agents/lease", "jobs/{job_id}/heartbeat", "jobs/{job_id}/result"):
        assert bodies[f"/api/v1/{path}"], path
    assert client.post("studies", json=bodies["/api/v1/studies"][0]).status_code == 201
    token = client.post("devices/tokens", json={}).json()["token"]
    enrolment = {**bodies["/api/v1/agents/enrol"][0], "token": token}
    assert client.post("agents/enrol", json=enrolment).status_code == 201
