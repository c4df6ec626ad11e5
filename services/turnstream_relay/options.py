"""The options of the relay's commands."""

from pathlib import Path
from typing import Annotated

import typer

from turnstream_service.options import check_finite

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The TOML file of endpoints.")]
EndpointName = Annotated[str, typer.Option("--endpoint", metavar="NAME", help="The endpoint's name in the file.")]
Timeout = Annotated[
    float, typer.Option(min=0, callback=check_finite, help="Seconds to wait for the relay that has to do it.")
]
