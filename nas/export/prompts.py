"""Real text as token ids for any vocabulary size: words are hashed, so ids repeat as words do in prose."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache


@lru_cache(maxsize=1)
def _words() -> tuple[str, ...]:
    from pydoc_data.topics import topics  # prose that ships with Python (PSF licence)

    text = " ".join(topics[name] for name in sorted(topics))
    return tuple(re.findall(r"[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]", text)[:20_000])


def token_ids(vocab_size: int, length: int, offset: int = 0) -> list[int]:
    """``length`` ids of running text starting at word ``offset``; the same arguments give the same ids everywhere."""
    words = _words()
    return [zlib.crc32(words[(offset + i) % len(words)].encode()) % vocab_size for i in range(length)]
