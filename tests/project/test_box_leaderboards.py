"""docs/leaderboards/densesirst.md: a row or a command for every detector, kept rows stay, published ones apart."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from motes.benchmark.standing import Entrant, Standing, write_standing
from motes.cards import list_models, model_card
from motes.training.network import make_network
from motes.training.recipe import dump_recipe, load_recipe, recipe_names

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def script(docs_script: Callable[[str], ModuleType]) -> ModuleType:
    return docs_script("box_leaderboards")


def row(name: str, rule: str) -> Standing:
    """As `motes.benchmark.box_standing` measures it, of a training of 18 of 20 epochs."""
    values = {"map12": 0.25, "map07": 0.5, "recall": 0.75}
    return Standing(
        label=model_card(name).title,
        kind="trained here",
        model=name,
        variant="small",
        data="DenseSIRST",
        split="test_v1",
        run={
            "protocol": rule, "images": 86, "targets": 1209, "iou": 0.5, "distance": 3, "threshold": 0.5,
            "reader": rule, "plus_one": False, "resolution": None, "classes": ["Target"],
            "options": {"backbone": "resnet18"}, "training": {"recipe": "densesirst_short"},
        },
        metrics={k: {"value": v, "numerator": 1, "denominator": 4, "interval": None} for k, v in values.items()},
        key="k",
        epochs=(18.0, 20),
        task="detection",
        curves={k: np.linspace(0, 1, 5) for k in ("recall", "precision", "alarms", "pd")},
    )  # fmt: skip


def test_kept_rows_stay_without_runs_and_data(script: ModuleType, tmp_path: Path) -> None:
    for rule in script.RULES:
        place = tmp_path / "rows" / f"densesirst-testv1-{rule}" / "fcos"
        write_standing(place, row("fcos", rule))
    page = script.write_box_page(tmp_path, tmp_path / "nothing", [])
    ours, rest = page.read_text(encoding="utf-8").split("## Not trained here")
    missing, published = rest.split("## Published by others")
    assert ours.count("**FCOS**<br>fcos, small, resnet18") == 2 and ours.count("18 of 20 epochs") == 2
    assert ours.index("protocol `exact`") < ours.index("protocol `deepir`")
    commands = [line.split("`")[1] for line in missing.splitlines() if line.startswith("| ") and "`" in line]
    assert len(commands) == 25 and not any("=fcos" in c for c in commands)
    assert "0.274" in published and "0.274" not in ours + missing
    assert not list(tmp_path.glob("*overlays*"))  # no licence to show frames


def test_without_rows_all_are_listed(script: ModuleType, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20261122-000000"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe("atss_densesirst")), encoding="utf-8")
    with (run / "metrics.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["step", "epoch"], [9, 1.5]])
    assert script.is_detector(str(run)) and script.is_detector(f"My run={run}")
    text = script.write_box_page(tmp_path, tmp_path / "nothing", [str(run)]).read_text(encoding="utf-8")
    assert "**Not measured yet.**" in text and "26 of the 26 detectors have no row" in text
    lines = {line.split(" | ")[0]: line for line in text.split("## Published")[0].splitlines() if line.startswith("| ")}
    epochs = load_recipe("atss_densesirst").loop.epochs
    assert f"no weights yet, 1.5 of {epochs} epochs" in lines["| ATSS"] and "not trained here" in lines["| PAA"]


@pytest.mark.parametrize("name", list_models("detection"))
def test_the_command_of_every_detector_makes_its_network(script: ModuleType, name: str) -> None:
    if script.RECIPE not in recipe_names():
        pytest.skip(f"no recipe {script.RECIPE}")
    motes, train, recipe, *changes = shlex.split(" ".join(script.command(name)))
    made = load_recipe(recipe, changes)
    with torch.device("meta"):
        net = make_network(made)
    assert (motes, train, net.card.name) == ("motes", "train", name)
    if name == "motes_det":  # else on a ResNet-18
        assert not made.model.options
    if name in script.OWN_BACKBONE:  # else it would be RetinaNet
        assert "backbone" not in made.model.options


def test_networks_that_segment_are_boxes_of_their_masks(script: ModuleType, tmp_path: Path) -> None:
    class Backend:
        card = model_card("acm")

    had = Entrant("ACM", Backend(), "trained here", macs=440_025_728)
    given = script.with_boxes(had)
    assert (given.label, given.backend.card.task) == ("ACM, boxes of its masks", "detection")
    assert given.macs == pytest.approx(4 * had.macs, rel=0.01)
    for data, expected in (("DenseSIRST", True), ("SIRST", False)):
        run = tmp_path / data / "20261122-000000"
        run.mkdir(parents=True)
        changes = ["model.name=acm", f"data.name={data}"]
        (run / "recipe.yaml").write_text(dump_recipe(load_recipe("sirst_short", changes)), encoding="utf-8")
        assert script.is_detector(str(run)) is expected


def test_several_runs_of_a_network_are_told_apart(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {"runs/a": "fcos", "runs/b": "fcos", "Mine=runs/c": "fcos", "runs/d": "atss"}
    monkeypatch.setattr(script, "network_of", networks.get)
    labels = [label for label, _ in script.distinct(list(networks))]
    assert labels == ["FCOS, a", "FCOS, b", "", ""]


def test_the_committed_page_names_every_detector() -> None:
    text = (DOCS / "leaderboards" / "densesirst.md").read_text(encoding="utf-8")
    ours, published = text.split("## Published by others")
    for name in list_models("detection"):
        title = model_card(name).title
        assert f"**{title}" in ours or f"| {title} | " in ours, name
        assert f"| {title} | " in published or not model_card(name).published, name
    assert "not comparable" in published.splitlines()[0]
    assert (DOCS / "leaderboards" / "densesirst.html").is_file()
