"""What is installed is whole: the wheel holds every file of the package, those that are no Python too."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
BUILT: Final = {".pyc"}


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("cacheproxy/")}
    here = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "cacheproxy").rglob("*")
        if file.is_file() and file.suffix not in BUILT
    }
    assert "cacheproxy/server/dashboard/static/index.html" in here
    assert held == here
