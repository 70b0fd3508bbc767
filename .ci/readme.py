"""Prints the N-th command of README.md: ``python .ci/readme.py 1``.

Commands are the lines of its first ``sh`` block. There are two: install and run, install and test.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def commands(text: str) -> list[str]:
    """The lines of the first ``sh`` block without their remarks."""
    block = re.search(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = block.group(1).splitlines() if block else []
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    print(commands(README.read_text(encoding="utf-8"))[int(sys.argv[1]) - 1])
