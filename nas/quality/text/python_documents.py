"""The text that every Python ships: its language reference, and the docstrings of its standard library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef)


def python_documents(*, docstrings: bool = True) -> Iterator[str]:
    from pydoc_data.topics import topics

    yield from topics.values()
    if docstrings:
        for path in sorted(Path(ast.__file__).parent.rglob("*.py")):
            if not {"site-packages", "test", "tests", "idlelib"} & set(path.parts):
                yield _docstrings(path)


def _docstrings(path: Path) -> str:
    try:
        tree = ast.parse(path.read_text(errors="ignore"))
    except (SyntaxError, ValueError):
        return ""
    return "\n\n".join(text for node in ast.walk(tree) if isinstance(node, KINDS) and (text := ast.get_docstring(node)))
