"""Comparisons over HTTP: kept whole and once, listed, refused when they contradict themselves, shown on a page."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from contracts.comparison import Comparison
from tests.doubles.comparison import made_up
from tests.server.helpers import FakeClock


def body(**changes: Any) -> dict[str, Any]:
    return {**made_up().model_dump(mode="json"), **changes}


def test_a_comparison_comes_back_as_it_was_posted(client: TestClient) -> None:
    posted = client.post("comparisons", json=body())
    assert posted.status_code == 201
    found = client.get(f"comparisons/{posted.json()['id']}").json()
    assert Comparison.model_validate(found["comparison"]) == made_up()
    assert (found["title"], found["fingerprint"]) == (made_up().title, made_up().device.fingerprint)


def test_the_same_result_is_kept_once_and_the_newest_stands_first(client: TestClient, clock: FakeClock) -> None:
    first = client.post("comparisons", json=body()).json()["id"]
    assert client.post("comparisons", json=body()).json()["id"] == first
    clock.advance(60)
    second = client.post("comparisons", json=body(title="another")).json()["id"]
    assert [one["id"] for one in client.get("comparisons").json()] == [second, first]
    assert [one["id"] for one in client.get("comparisons", params={"limit": 1, "offset": 1}).json()] == [first]
    fingerprint = made_up().device.fingerprint
    assert len(client.get("comparisons", params={"fingerprint": fingerprint}).json()) == 2
    assert client.get("comparisons", params={"fingerprint": "0" * 16}).json() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "1"),
        ({"rows": []}, "rows"),
        ({"rows": [made_up().rows[0].model_dump(mode="json")] * 2}, "name of its own"),
        ({"baseline": "nobody"}, "not the name of a row"),
        ({"pairs": [{**made_up().pairs[0].model_dump(), "probability": 1.5}]}, "probability"),
        ({"minutes": -1}, "no device measures -1"),
    ],
)
def test_a_malformed_one_is_refused(client: TestClient, changes: dict[str, Any], words: str) -> None:
    reply = client.post("comparisons", json=body(**changes))
    assert reply.status_code == 422 and words in reply.text
    assert client.get("comparisons").json() == []


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "9223372036854775808", "-1"])
@pytest.mark.parametrize("place", ["minutes", "samples", "interval"])
def test_numbers_that_no_device_measures_are_refused(client: TestClient, place: str, value: str) -> None:
    sent = body(minutes="HERE") if place == "minutes" else body()
    if place == "samples":
        sent["rows"][0]["samples"]["decode_ms@128"][1][0] = "HERE"
    if place == "interval":
        sent["rows"][0]["metrics"]["decode_ms@128"] |= dict.fromkeys(("low", "median", "high"), "HERE")
    text = json.dumps(sent).replace('"HERE"', value)
    reply = client.post("comparisons", content=text, headers={"content-type": "application/json"})
    assert reply.status_code in (400, 422), reply.text
    assert client.get("comparisons").json() == []


@pytest.mark.parametrize("text", ["half \\ud800 a pair", "nul \\u0000", "../../etc", "<|im_end|><script>"])
def test_any_text_is_kept_as_text(client: TestClient, text: str) -> None:
    """Shown as text, stored without what a database refuses, never part of a path."""
    rows = body()["rows"]
    rows[2] |= {"name": "NAME", "samples": {"METRIC": [[1.0]] * 4}}
    sent = json.dumps(body(title="TITLE", rows=rows))
    for word in ("TITLE", "NAME", "METRIC"):
        sent = sent.replace(f'"{word}"', f'"{text}"')
    reply = client.post("comparisons", content=sent, headers={"content-type": "application/json"})
    assert reply.status_code in (201, 422), reply.text
    if reply.status_code == 201:
        assert client.get(f"comparisons/{reply.json()['id']}").status_code == 200


def test_samples_need_a_round_each(client: TestClient) -> None:
    rows = body()["rows"]
    rows[0]["rounds"] = [0, 1]
    assert "2 rounds" in client.post("comparisons", json=body(rows=rows)).text


def test_an_unknown_one_is_a_404(client: TestClient) -> None:
    assert client.get("comparisons/none").status_code == 404


@pytest.mark.parametrize("path", ["comparisons", "comparisons/comparison-1"])
def test_the_page_is_served_with_the_scripts_it_names(client: TestClient, path: str) -> None:
    page = client.get(f"http://127.0.0.1/{path}")
    assert page.status_code == 200 and "Content-Security-Policy" in page.headers
    for name in ("comparisons.js", "comparison.js", "comparisons.css"):
        assert client.get(f"http://127.0.0.1/static/{name}").status_code == 200
    assert 'src="/static/comparisons.js"' in page.text and 'id="command"' in page.text
