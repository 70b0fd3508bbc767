"""What is installed: data files, metadata, and the lists that CI goes by."""

from __future__ import annotations

import importlib.util
import tomllib
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType

import pytest

import motes

REPOSITORY = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def test_data_files_are_installed() -> None:
    """Of the wheel, where the tests run on an installed one (as .ci/run does)."""
    source = REPOSITORY / "src" / "motes"
    expected = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.suffix in (".yaml", ".txt", ".onnx")}
    assert {"models/repisdnet.yaml", "recipes/networks/repisdnet.yaml", "recipes/lists/sirst_fit.txt"} <= expected
    installed = resources.files("motes")
    missing = [name for name in sorted(expected | {"py.typed"}) if not installed.joinpath(name).is_file()]
    assert missing == []


def test_shipped_networks_are_small_and_carry_their_card() -> None:
    from motes.inference import list_weights, read_onnx_card

    if not list_weights():
        pytest.skip("no network is shipped yet")
    assert "repisdnet-sirst" in list_weights()
    assert sum(p.stat().st_size for p in list_weights().values()) < 16e6
    for path in list_weights().values():
        card = read_onnx_card(path)
        assert card.training["data"]
        assert card.measured
        assert card.calibration


def test_metadata() -> None:
    meta = metadata.metadata("motes")
    assert meta["Version"] == motes.__version__
    assert meta["License-Expression"] == "Apache-2.0"
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{motes.__version__}]" in changelog
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {motes.__version__}\n" in citation


def test_the_field_half_does_not_ask_for_the_lab() -> None:
    names = {spec.split(">")[0].strip() for spec in PYPROJECT["project"]["dependencies"]}
    assert not names & {"torch", "torchvision", "timm", "lightning", "onnx", "onnxscript", "safetensors", "matplotlib"}


def test_every_room_is_in_the_contracts() -> None:
    """A new room must be put on a floor, in a half, and under mypy if it is in the field."""
    rooms = {p.parent.name for p in (REPOSITORY / "src" / "motes").glob("*/__init__.py")} - {"recipes", "weights"}
    field, floors = PYPROJECT["tool"]["importlinter"]["contracts"]
    lab = {"models", "layers", "losses", "checkpoints", "export", "training", "benchmark"}
    assert rooms <= {floor.strip("()") for floor in floors["layers"]}
    in_field = rooms - lab - {"cli"}
    assert {f"motes.{room}" for room in in_field} <= set(field["source_modules"])
    assert {f"src/motes/{room}" for room in in_field | {"cli"}} <= set(PYPROJECT["tool"]["mypy"]["files"])


def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", REPOSITORY / ".ci" / "licences.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("declared", "allowed"),
    [
        (["MIT"], True),
        (["BSD License"], True),
        (["Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND (MIT OR GPL-2.0-only)"], True),
        (["Apache Software License", "MIT License"], True),
        (["GPL-3.0-only"], False),
        (["AGPL-3.0-only"], False),
        (["MIT AND LGPL-2.1-or-later"], False),
        (["MIT License", "GNU General Public License v3 (GPLv3)"], False),
        (["Other/Proprietary License"], False),
        (["MPL-2.0"], False),
        ([], False),
    ],
)
def test_licences(declared: list[str], allowed: bool) -> None:
    assert licences().permissive(declared) is allowed


def test_bundled_libraries() -> None:
    bundled = licences().bundled
    assert bundled(["av.libs/libx264-1a2b.so.164", "av/frame.py"]) == {"x264 or x265"}
    assert bundled(["cv.libs/libavcodec-c4204469.so.62", "numpy.libs/libquadmath-96.so.0"]) == {
        "FFmpeg",
        "GCC run-time",
    }
    assert bundled(["sympy/external/gmpy.py", "scipy/tests/fftw_ref.npz", "lib/libpng16.so.16"]) == set()
