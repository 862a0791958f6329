"""Options that several `hilnas train` commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str, typer.Option(help="Coordinator.", envvar="HILNAS_URL")]
Root = Annotated[Path, typer.Option(help="Folder of runs and stages.")]
