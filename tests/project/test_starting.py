"""The commands start without PyTorch, and without what they do not need."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from motes.cli.app import COMMANDS
from motes.cli.loading import load

BLOCKER = Path(__file__).resolve().parents[2] / ".ci" / "without_torch.py"
GROUPS = {"data": ("info", "check", "split", "synthesize", "prepare"), "plot": ("roc", "pr", "surface")}
HELP = [(name,) for name in COMMANDS] + [(group, name) for group, names in GROUPS.items() for name in names]


def run(script: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False)


def blocked(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    script = f"import runpy; runpy.run_path({str(BLOCKER)!r}, run_name='__main__')"
    return run(script, *arguments, cwd=cwd)


@pytest.mark.parametrize("name", COMMANDS)
def test_first_line_of_help_is_the_commands_own(name: str) -> None:
    home, line = COMMANDS[name]
    own = load(f"motes.cli.{home}", name).help
    assert " ".join(own.split("\n\n")[0].split()) == line


def test_every_help_without_torch() -> None:
    script = (
        f"import runpy, sys; sys.argv = ['motes', '--help']; blocker = runpy.run_path({str(BLOCKER)!r})\n"
        "sys.meta_path.insert(0, blocker['Blocker']())\n"
        "from motes.cli.app import app\n"
        f"for words in {HELP!r}:\n"
        "    app([*words, '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'cv2', 'scipy', 'onnxruntime', 'matplotlib', 'pydantic', 'numpy'} & sys.modules.keys()\n"
        "print('imported:', *sorted(heavy))\n"
    )
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: motes") == len(HELP)
    assert done.stdout.splitlines()[-1] == "imported:"


def test_the_blocker_blocks() -> None:
    pytest.importorskip("lightning")
    done = blocked("train", "repisdnet_sirst")
    assert done.returncode == 1
    assert "LabImportedError: import of lightning" in done.stderr


def test_detection_without_torch(tmp_path: Path) -> None:
    from motes.data.synthesize import noise_scene
    from motes.imaging import write_image

    write_image(tmp_path / "frame.png", noise_scene(64, 64, seed=0).pixels)
    done = blocked("detect", "frame.png", "-o", "out", "--model", "tophat", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "targets.csv").is_file()


def test_the_shipped_network_without_torch(tmp_path: Path) -> None:
    from motes.inference import list_weights

    if not list_weights():
        pytest.skip("no network is shipped yet")
    done = blocked("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "motes-demo" / "targets.csv").read_text(encoding="utf-8").splitlines()) > 1


def test_text_needs_no_pydantic(tmp_path: Path) -> None:
    script = "import sys; from motes.cli.app import main\ntry: main()\nfinally: print('pydantic' in sys.modules)"
    done = run(script, "detect", "no.png", "-o", str(tmp_path), "--model", "tophat")
    assert done.returncode == 2
    assert done.stdout.split() == ["False"]


CONVERSIONS = [
    (["a.png"], {"files": ["a.png"], "out": Path("out"), "name": "x", "count": 3, "rate": None, "more": None}),
    (["a", "b", "--out", "o", "--name", "y"], {"files": ["a", "b"], "out": Path("o"), "name": "y"}),
    (["a", "--count", "7", "--rate", "1e-3", "--more", "p"], {"count": 7, "rate": 1e-3, "more": ["p"]}),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "expected"), CONVERSIONS)
def test_arguments_become_what_they_are_declared_as(arguments: list[str], expected: dict[str, object]) -> None:
    got: dict[str, object] = {}
    app = typer.Typer()

    @app.command()
    def command(
        files: list[str], out: Path = Path("out"), name: str = "x", count: int = 3, rate: float | None = None,
        more: list[str] | None = None,
    ) -> None:  # fmt: skip
        got.update(files=files, out=out, name=name, count=count, rate=rate, more=more)

    app(arguments, standalone_mode=False)
    assert {key: got[key] for key in expected} == expected
    assert {key: type(got[key]) for key in expected} == {key: type(value) for key, value in expected.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detekt"], "did you mean 'detect'"),
        (["data", "infoo"], "did you mean 'info'"),
        (["detect"], "missing argument"),
        (["detect", "a.png", "-o", "out", "--threshold", "x"], "--threshold"),
        (["detect", "a.png", "-o", "out", "--limit-threads", "0"], "--limit-threads"),
        (["detect", "a.png", "--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run("from motes.cli.app import main; main()", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr.lower()
    assert list(tmp_path.iterdir()) == []


def test_version() -> None:
    done = run("from motes.cli.app import main; main()", "--version")
    assert done.stdout == f"motes {importlib.import_module('motes').__version__}\n"
