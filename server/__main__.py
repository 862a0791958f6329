"""``python -m server``: serves with the environment's settings."""

from __future__ import annotations

import uvicorn

from server.app import create_app
from server.settings import Settings


def main() -> None:
    settings = Settings.from_environment()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main()
