"""``python -m function COMMAND``: the commands are in :mod:`function.cli`."""

from __future__ import annotations

from function.cli import main

if __name__ == "__main__":
    main.script()
