"""Text sources from packages, without fetching any: what lies unpacked in the cache is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.errors import InvalidConfig
from trainer.data import sources
from trainer.data.sources import open_source

PROSE = "Fellow citizens, this text is long enough to be a document of its own. " * 4


def test_a_debian_package_gives_its_licence_and_wordnets_glosses(tmp_path: Path) -> None:
    share = tmp_path / "debian/wordnet-base/unpacked/usr/share"
    (share / "doc/wordnet-base").mkdir(parents=True)
    (share / "wordnet").mkdir()
    (share / "doc/wordnet-base/copyright").write_text("Files: *\nLicense: WordNet-3.0\n\nLicense: GPL-2+\n")
    line = "00001740 03 n 02 entity 0 living_thing 0 002 ~ 1 n 0000 | that which is perceived; \"it lives\"  \n"
    (share / "wordnet/data.noun").write_text("  1 This software and database\n" + line * 5)
    source = open_source("debian:wordnet-base", tmp_path)
    assert source.licence == "WordNet-3.0, GPL-2+"
    (document,) = source.documents()
    assert document.splitlines() == ['entity, living thing: that which is perceived; "it lives"'] * 5


def test_an_npm_package_gives_its_text_files(tmp_path: Path) -> None:
    package = tmp_path / "npm/some-texts-1-0/unpacked/package"
    (package / "data").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"license": "CC0-1.0"}))
    (package / "data/a.txt").write_text(PROSE)
    (package / "data/too short.txt").write_text("short")
    source = open_source("npm:some-texts@1.0", tmp_path)
    assert source.licence.startswith("CC0-1.0")
    assert list(source.documents()) == [PROSE]


def test_python_brings_its_own_documentation(tmp_path: Path) -> None:
    source = open_source("python:docs", tmp_path)
    assert source.licence == "PSF-2.0"
    documents = list(source.documents())
    assert any("lambda" in text for text in documents)
    assert len(documents) > 200


@pytest.mark.parametrize(("spec", "tool"), [("debian:none", "apt-get"), ("npm:none", "npm")])
def test_a_missing_tool_is_said(spec: str, tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidConfig, match=f"needs {tool}, which is not here"):
        open_source(spec, tmp_path)


def test_a_package_that_cannot_be_had_is_said_with_the_tools_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="this cannot be had: told why"):
        sources._run(["sh", "-c", "echo told why >&2; exit 3"], tmp_path, "this")
