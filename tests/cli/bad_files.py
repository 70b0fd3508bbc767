"""One folder with everything that a command line can be given by mistake."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np

from miniatures import miniature
from motes.cards import model_card
from motes.imaging import write_image


class Bomb:
    """Creates a file when it is unpickled by a reader that executes what it is told."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def make_folder(root: Path) -> Path:
    """``set`` is a good data set, ``maps`` good maps of it, ``net.safetensors`` a good network; the rest is bad.

    ``dnanet.pth`` and ``three.pth`` (wrapped, of three classes) are good weights of other networks than are asked for.
    """
    import torch
    from safetensors.torch import save_file

    from motes.checkpoints import write_safetensors
    from motes.models import create_model
    from motes.training.recipe import dump_recipe, load_recipe

    miniature(root / "set", "basicirstd", 6)
    miniature(root / "mixed", "basicirstd", 6)
    (root / "empty").mkdir()
    (root / "a file").write_text("not a folder", encoding="utf-8")
    images = sorted((root / "mixed" / "images").iterdir())
    masks = sorted((root / "mixed" / "masks").iterdir())
    write_image(masks[0], np.zeros((32, 32, 1), np.uint8))
    images[1].write_bytes(images[1].read_bytes()[:200])
    for name in ("broken", "wrong"):
        miniature(root / name, "basicirstd", 6)
    image = sorted((root / "broken" / "images").iterdir())[1]  # its only frame for testing
    image.write_bytes(image.read_bytes()[:200])
    write_image(sorted((root / "wrong" / "masks").iterdir())[4], np.zeros((32, 32, 1), np.uint8))
    for mask in (root / "set" / "masks").iterdir():
        (root / "maps").mkdir(exist_ok=True)
        (root / "maps" / mask.name).write_bytes(mask.read_bytes())

    state = {k: v.numpy() for k, v in create_model("repisdnet").state_dict().items()}
    write_safetensors(root / "net.safetensors", state, model_card("repisdnet"))
    other = {"encoder.weight": torch.zeros(4, 3, 3, 3), "encoder.bias": torch.zeros(4)}
    torch.save(other, root / "other.pth")
    save_file(other, root / "other.safetensors")
    torch.save(create_model("dnanet", "resnet10", channels="one").state_dict(), root / "dnanet.pth")
    (root / "cut-dnanet.pth").write_bytes((root / "dnanet.pth").read_bytes()[:200_000])
    three = create_model("acm", num_classes=3).state_dict()
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in three.items()}}, root / "three.pth")
    whole = io.BytesIO()
    torch.save({k: torch.from_numpy(v) for k, v in state.items()}, whole)
    (root / "cut.pth").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (root / "cut.safetensors").write_bytes((root / "net.safetensors").read_bytes()[:100_000])
    (root / "cut.onnx").write_bytes(b"\x08\x08\x12\x05motes:\xff\x10")
    for name in ("text.pth", "text.onnx", "text.yaml"):
        (root / name).write_text("this is text\n", encoding="utf-8")
    bomb = bomb_in_zip(root / "executed")
    (root / "bomb.pth").write_bytes(bomb)
    recipe = dump_recipe(load_recipe("repisdnet_sirst", [f"data.root={root / 'set'}", "data.train=null"]))
    for name, checkpoint in (("run-cut", whole.getvalue()[:5000]), ("run-bomb", bomb), ("run-net", whole.getvalue())):
        (root / name).mkdir()
        (root / name / "recipe.yaml").write_text(recipe, encoding="utf-8")
        (root / name / "last.ckpt").write_bytes(checkpoint)
    (root / "typo.yaml").write_text(recipe.replace("options: {}", "options: {fromm: deploy}", 1), encoding="utf-8")
    return root


def bomb_in_zip(marker: Path) -> bytes:
    """As torch writes it, with a pickle inside that makes a folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": {"a": Bomb(marker)}}, protocol=2))
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()
