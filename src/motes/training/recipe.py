"""Recipes: everything that decides a training, validated before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from motes.cards import InputSpec, model_card
from motes.errors import CardError, MotesError
from motes.naming import look_up, nearest


class Part(BaseModel):
    """A section of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPart(Part):
    """Which network, and what it starts from."""

    name: str
    variant: str | None = None
    options: dict[str, Any] = {}
    init: str | None = None  # weights to start from (.safetensors of this network)
    # What the backbone starts from: "imagenet" (downloaded by timm), a weight file, or "none" (by chance). The log,
    # report.md and environment.json say which.
    backbone_weights: str | None = None


class ExtraData(Part):
    """A further data set whose frames are mixed into training."""

    root: str
    split: str | None = None
    repeat: float = Field(1.0, gt=0)  # how often each frame counts in an epoch
    empty: bool = False  # every image below root is a frame without targets: clutter to learn from


class WindowsPart(Part):
    """How images are cut into windows on the fly; see ``data/cutting.py``."""

    rule: Literal["split", "window", "pad-split"] = "window"
    patch: int = Field(896, ge=8)  # px
    stride: int = Field(512, ge=1)  # px


class DataPart(Part):
    """Which frames are trained on, and which decide."""

    name: str = ""  # how results name the data set
    root: str | None = None  # a folder, or a name under MOTES_DATA
    layout: str | None = None
    # A class table (isaid, ...) or a class list: labels of several classes, task aerial. Task detection: a list of the
    # boxes' names; none: the network's card names them.
    classes: str | None = None
    windows: WindowsPart | None = None  # task aerial: none takes images whole (patches on disk)
    # A split of the data set ("trainval | train": the first of these it has), or a list of ids (.txt; shipped ones as
    # lists/NAME.txt).
    train: str | None = None
    val: str | None = None  # likewise; none: ``val_fraction`` of train is carved out
    val_fraction: float = Field(0.15, ge=0, lt=1)
    exclude: tuple[str, ...] = ()  # lists of ids that must not be trained on
    repeat: float = Field(1.0, gt=0)  # how often each frame counts in an epoch
    reader: str = "exact"  # task detection: how the corners of VOC boxes are read, see ``data/annotations.py``
    extra: tuple[ExtraData, ...] = ()


class TransformPart(Part):
    """Augmentation; a function of (seed, epoch, index). See ``training/transforms.py``."""

    name: Literal["serankdet", "target", "aerial", "boxes"] = "serankdet"
    crop: int = Field(256, ge=8)
    long_side: tuple[float, float] = (0.5, 2.0)  # serankdet: the long side, relative to crop
    scale: tuple[float, float] = (0.5, 2.0)  # target, boxes, aerial with fit crop: magnification of the frame
    longest: float | None = Field(None, gt=0)  # target: px; no frame is enlarged until a target of it is longer
    # How often a crop holds a target on purpose: target, boxes with fit crop. Aerial, default there 0: a pixel of a
    # class drawn evenly from those of the image
    centred: float = Field(0.8, ge=0, le=1)
    paste: float = Field(0.0, ge=0, le=1)  # how often targets of other frames are copied into this one
    pasted: int = Field(3, ge=1)  # at most so many
    paste_scale: tuple[float, float] = (1.0, 1.0)  # target: magnification of what is pasted
    paste_gain: tuple[float, float] = (0.7, 1.3)  # target: factor of its contrast
    paste_scr: float = Field(0.0, ge=0)  # target: least contrast, in standard deviations of what it is pasted on
    # boxes: where they go and how they blend in, see ``data/copy_paste.py``; "sky" is BAG-CP
    paste_mode: Literal["sky", "plain", "plain_clusters", "gaussian", "gaussian_clusters"] = "sky"
    resize: tuple[int, int] | None = None  # boxes: height and width that every frame is squeezed to first
    # aerial: squeeze to the crop (PFNet), pad to it (FactSeg), or magnify by ``scale`` and cut at random (Potsdam).
    # boxes: whole frames, padded to the largest of their batch (pad), or cut at random (crop)
    fit: Literal["resize", "pad", "crop"] = "pad"
    flip: float = Field(0.5, ge=0, le=1)  # aerial: the chance of a horizontal flip, and of a vertical one
    rotate: bool = False  # by multiples of 90 degrees, and vertical flips
    blur: float = Field(0.5, ge=0, le=1)
    blur_sigma: tuple[float, float] = (0.15, 1.3)  # aerial: standard deviation of the blur, px
    gain: float = Field(0.0, ge=0)  # contrast is multiplied by exp(uniform(-gain, gain))
    offset: float = Field(0.0, ge=0)  # brightness, in units of the scaled input
    gamma: float = Field(0.0, ge=0)
    noise: float = Field(0.0, ge=0)  # largest standard deviation of added noise, in units of the scaled input
    # target: what cameras and their recorders add, see ``training/sensors.py``
    stripes: float = Field(0.0, ge=0)  # largest standard deviation of column or row offsets, in units of the input
    defects: float = Field(0.0, ge=0, le=1)  # how often the frame has pixels that are stuck
    sharpen: float = Field(0.0, ge=0, le=1)  # how often edges are sharpened
    compress: float = Field(0.0, ge=0, le=1)  # how often the frame has been a JPEG


class LossPart(Part):
    """One term of the loss. Of the task detection, whose losses are the networks': another weight for one of them."""

    name: str
    weight: float = 1.0
    options: dict[str, Any] = {}


class OptimizerPart(Part):
    """An optimiser of ``torch.optim`` or ``dadaptation`` by its name; see ``training/optimizers.py``."""

    name: str = "AdamW"
    lr: float = Field(1e-3, gt=0)
    options: dict[str, Any] = {}  # null takes one of the recipe's away: optimizer.options.momentum=null
    decay: Literal["all", "weights"] = "all"  # weights: norms and biases are not decayed
    backbone_lr: float = Field(1.0, gt=0)  # of the rate, for what is named backbone


class SchedulePart(Part):
    """The learning rate over the training; see ``training/schedule.py``."""

    name: Literal["constant", "poly", "cosine", "step"] = "cosine"
    warmup_epochs: float = Field(0, ge=0)
    warmup_steps: int = Field(0, ge=0)  # the first so many rates are multiplied, on top of the schedule:
    warmup_factor: float = Field(0.001, gt=0, le=1)  # from this factor
    warmup: Literal["linear", "constant"] = "linear"  # linear: up to 1
    min_lr: float = Field(0.0, ge=0)
    power: float = 0.9
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    unit: Literal["step", "epoch"] = "step"
    shift: int = 0  # units added to the progress, as published loops that schedule too late (-1) or too early (1)
    horizon: Literal["rest", "total"] = (
        "rest"  # what the decay is relative to: epochs after the warm-up, or all (SeRankDet)
    )


class LoopPart(Part):
    """How long, how much at a time, in which precision."""

    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)  # optimiser steps, instead of epochs
    batch_size: int = Field(16, ge=1)  # per process
    accumulate: int = Field(1, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = True
    clip_norm: float | None = Field(None, gt=0)  # largest L2 norm of the gradient
    clip_per: Literal["network", "tensor"] = "network"  # of all of it, or of every tensor by itself
    ema: float | None = Field(None, gt=0, lt=1)
    seed: int = 0
    workers: int = Field(2, ge=0)
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(1, ge=1)
    checkpoint_every: int = Field(100, ge=1)  # optimiser steps between two last.ckpt
    keep_every: int | None = Field(None, ge=1)  # epochs between two kept step-*.safetensors
    keep_every_steps: int | None = Field(None, ge=1)  # the same in optimiser steps
    max_steps: int | None = Field(None, ge=1)  # stop early, for tests and smoke runs

    @model_validator(mode="after")
    def _one_length(self) -> LoopPart:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        return self


class ValidationPart(Part):
    """What selects the best weights."""

    every: int = Field(1, ge=1)  # epochs
    every_steps: int | None = Field(None, ge=1)  # optimiser steps, instead of epochs
    protocol: str = "native"
    metric: str = "iou"
    patience: int | None = Field(None, ge=1)  # validations without a gain before the training stops
    selects_on_test: bool = False  # said in the report where a paper did so


class Recipe(Part):
    """A whole training."""

    name: str = ""
    note: str = ""
    model: ModelPart
    input: InputSpec | None = None  # default: the network's card
    data: DataPart = DataPart()
    transform: TransformPart = TransformPart()
    losses: tuple[LossPart, ...] = Field(default=(), validate_default=True)
    optimizer: OptimizerPart = OptimizerPart()
    schedule: SchedulePart = SchedulePart()
    loop: LoopPart
    validation: ValidationPart = ValidationPart()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_task(cls, values: Any) -> Any:
        """Labels of several classes, and boxes, have a transform, a protocol and a metric of their own."""
        return _merged(DEFAULTS[_task_of(values)], values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _has_a_loss(self) -> Recipe:
        if not self.losses and self.task != "detection":
            raise ValueError("losses is empty, at least one is needed")
        return self

    @property
    def task(self) -> str:
        """``irstd``, ``aerial`` or ``detection``."""
        return _task(self.model.name, self.data.classes)


DEFAULTS: dict[str, dict[str, Any]] = {
    "irstd": {},
    "aerial": {"transform": {"name": "aerial", "centred": 0.0}, "validation": {"protocol": "patch", "metric": "miou"}},
    "detection": {
        "transform": {"name": "boxes", "scale": [1.0, 1.0], "blur": 0.0, "pasted": 99},
        "validation": {"protocol": "exact", "metric": "map12"},
    },
}
"""What a recipe of a task has where it says nothing else."""


def _task_of(values: Mapping[str, Any]) -> str:
    model = values.get("model")
    return _task(model.get("name") if isinstance(model, Mapping) else None, _classes(values))


def _task(network: Any, classes: Any) -> str:
    """Networks of boxes have losses, truth and metrics of their own; what else is trained, the data say."""
    with suppress(CardError):  # an unknown network is told of where it is made
        if model_card(str(network)).task == "detection":
            return "detection"
    return "irstd" if classes is None else "aerial"


def recipe_names() -> list[str]:
    """The shipped recipes: every network on every data set of its task, and the files that stand alone."""
    return sorted([*_shipped("."), *_pairs()])


@cache
def _pairs() -> dict[str, tuple[str, str]]:
    """Name -> network and data set; imports no network."""
    data = {d: _data_values(d)[2] for d in _shipped("data")}
    networks = {
        n: model_card(_read(_recipes("networks") / f"{n}.yaml", n)["model"]["name"]) for n in _shipped("networks")
    }
    return {f"{n}_{d}": (n, d) for n, card in networks.items() for d, task in data.items() if card.task == task}


def _classes(values: Mapping[str, Any]) -> Any:
    data = values.get("data")
    return data.get("classes") if isinstance(data, Mapping) else None


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """A shipped recipe by name, or a YAML file by path, with ``key.sub=value`` changes applied.

    ``<network>_<data>`` is put together: ``data/<data>.yaml``, changed by ``networks/<network>.yaml``, changed by what
    that file says under ``per_data`` about this data set (or the one it is ``like``).

    Raises MotesError naming the file, the key and the nearest known one.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise MotesError(f"no recipe file {path}", "`motes recipes` lists the shipped ones")
        values, where, default_name = _read(path, str(path)), str(path), path.stem
    else:
        look_up("recipe", name, recipe_names())
        values, where, default_name = _shipped_values(name), f"recipe '{name}'", name
    for item in overrides:
        _override(values, item)
        _forget_other_length(values, item)
    values.setdefault("name", default_name)
    return parse_recipe(values, where)


def parse_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """A validated recipe; MotesError for the first thing that is wrong."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as e:
        error = e.errors()[0]
        key = ".".join(str(p) for p in error["loc"])
        if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            close = nearest(str(error["loc"][-1]), _known_keys(error["loc"][:-1]))
            raise MotesError(f"{where}: unknown key '{key}'", f"did you mean '{close}'?" if close else None) from None
        if error["type"] == "value_error":
            raise MotesError(f"{where}: {key}: {error['msg'].removeprefix('Value error, ')}") from None
        raise MotesError(f"{where}: {key}: {error['msg'].lower()}, found {error['input']!r}") from None


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default written out, as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _shipped(folder: str) -> list[str]:
    return sorted(p.name[:-5] for p in _recipes(folder).iterdir() if p.name.endswith(".yaml"))


def _recipes(folder: str) -> Traversable:
    return resources.files("motes.recipes") / folder


def _shipped_values(name: str) -> dict[str, Any]:
    if name in _shipped("."):
        return _read(_recipes(".") / f"{name}.yaml", name)
    network, data = _pairs()[name]
    values, like, _ = _data_values(data)
    of_network = _read(_recipes("networks") / f"{network}.yaml", network)
    changes = of_network.pop("per_data", {})
    return _merged(_merged(values, of_network), changes.get(data, changes.get(like, {})))


def _data_values(data: str) -> tuple[dict[str, Any], str, str]:
    """A data set's file, the data set whose ``per_data`` it takes where it has none, and the task it is for."""
    values = _read(_recipes("data") / f"{data}.yaml", data)
    like, task = values.pop("like", data), values.pop("task", "aerial" if _classes(values) else "irstd")
    return values, like, task


def _read(file: Path | Traversable, where: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as e:
        raise MotesError(f"{where} is not valid YAML: {' '.join(str(e).split())}") from None
    if not isinstance(values, dict):
        raise MotesError(f"{where} holds no keys")
    return values


LENGTHS = {"epochs": "steps", "steps": "epochs"}


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with the keys of ``above``, mappings merged; one length of a training takes the place of the other."""
    merged = {k: v for k, v in below.items() if LENGTHS.get(k) not in above}
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _override(values: dict[str, Any], item: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise MotesError(f"'{item}' is not of the form key=value", "for instance loop.epochs=20")
    node = values
    *parents, leaf = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise MotesError(f"'{key}': {parent} has no keys below it")
    try:
        node[leaf] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise MotesError(f"'{item}': the value is not valid YAML") from None
    if isinstance(node[leaf], str):  # YAML 1.1 reads 1e-3 as text
        try:
            node[leaf] = float(node[leaf])
        except ValueError:
            return


def _forget_other_length(values: dict[str, Any], item: str) -> None:
    """``loop.epochs=3`` makes a recipe that counts steps one that counts epochs, and the reverse."""
    other = LENGTHS.get(item.partition("=")[0].removeprefix("loop."))
    if item.startswith("loop.") and other:
        values["loop"].pop(other, None)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Recipe
    for step in location:
        if isinstance(step, int):
            continue
        field = getattr(model, "model_fields", {}).get(step)
        if field is None:
            break
        kinds = [field.annotation, *get_args(field.annotation)]
        model = next((k for k in kinds if hasattr(k, "model_fields") or hasattr(k, "__dataclass_fields__")), None)
    return list(getattr(model, "model_fields", None) or getattr(model, "__dataclass_fields__", {}))
