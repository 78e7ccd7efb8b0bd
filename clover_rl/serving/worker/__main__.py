"""`python -m clover_rl.serving.worker`: see `process`."""

from __future__ import annotations

import sys

from clover_rl.serving.worker.process import main

__all__: list[str] = []

sys.exit(main())
