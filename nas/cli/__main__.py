"""``python -m nas.cli`` is ``hilnas``."""

from nas.cli.main import main

main()
