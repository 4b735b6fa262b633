"""What a container runs is loaded without what a person runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import sys
from ctr.pipeline.commands.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted(name for name in sys.modules if name.startswith(("ctr.pipeline.commands.", "ctr.generator"))))
"""


@pytest.mark.parametrize("arguments", [["verdict", "--blessed=true"], ["step", "--help"]], ids=lambda words: words[0])
def test_a_container_loads_no_command_of_a_person(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", _CODE, *arguments], capture_output=True, text=True, check=True)
    shared = ["ctr.pipeline.commands.cli", "ctr.pipeline.commands.command_line"]
    assert done.stdout.splitlines()[-1].split() == [*shared, "ctr.pipeline.commands.container"]
