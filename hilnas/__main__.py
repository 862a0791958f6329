"""``python -m hilnas`` is ``hilnas``."""

from hilnas.cli.main import main

main()
