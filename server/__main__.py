"""``python -m server`` is ``hilnas serve``."""

from __future__ import annotations

from server.command import app

if __name__ == "__main__":
    app()
