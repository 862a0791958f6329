"""The dashboard: static pages of studies, trainings and comparisons, no build step. Deep links serve the same pages."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def mount_dashboard(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    @app.get("/studies/{rest:path}", include_in_schema=False)
    def page(rest: str = "") -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    @app.get("/trainings", include_in_schema=False)
    @app.get("/trainings/{rest:path}", include_in_schema=False)
    def trainings(rest: str = "") -> FileResponse:
        return FileResponse(STATIC / "trainings.html", headers=HEADERS)

    @app.get("/comparisons", include_in_schema=False)
    @app.get("/comparisons/{rest:path}", include_in_schema=False)
    def comparisons(rest: str = "") -> FileResponse:
        return FileResponse(STATIC / "comparisons.html", headers=HEADERS)

    app.mount("/static", _Static(directory=STATIC), name="static")


class _Static(StaticFiles):
    """Files are revalidated each time: an upgraded coordinator must not be used with an old script."""

    def file_response(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response
