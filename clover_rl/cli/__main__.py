"""`python -m clover_rl.cli` is `clover-rl`."""

from clover_rl.cli.app import main

__all__: list[str] = []

main()
