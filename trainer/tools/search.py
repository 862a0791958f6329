"""Search over local documents by BM25 (SQLite's FTS5), in memory."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

NOTHING = "nothing found"
WORDS = re.compile(r"\w+")


class Search:
    """``documents`` are passages; each is one hit."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._table = sqlite3.connect(":memory:", check_same_thread=False)
        self._table.execute("CREATE VIRTUAL TABLE passages USING fts5(text)")
        self._table.executemany("INSERT INTO passages VALUES (?)", ((document,) for document in documents))

    @classmethod
    def over(cls, folder: Path, pattern: str = "*.txt") -> Search:
        """Paragraphs of the files in ``folder``."""
        texts = (path.read_text(errors="replace") for path in sorted(folder.rglob(pattern)))
        return cls(part.strip() for text in texts for part in text.split("\n\n") if part.strip())

    def __call__(self, query: str, hits: int = 1) -> str:
        """The best ``hits`` passages, a line each; any word of ``query`` may match."""
        wanted = " OR ".join(f'"{word}"' for word in WORDS.findall(query))
        if not wanted:
            return NOTHING
        rows = self._table.execute(
            "SELECT text FROM passages WHERE passages MATCH ? ORDER BY rank, rowid LIMIT ?", (wanted, hits)
        ).fetchall()
        return "\n".join(text for (text,) in rows) or NOTHING
