"""Cards: what a network is, and how its input is made.

A network's own card is ``models/<name>.yaml``; the card of a weight file (the network's, plus what it was trained on
and what it scored) travels in the ONNX metadata or the safetensors header under the key ``motes``. Plain dataclasses,
not pydantic: every ``motes detect`` reads a card, and pydantic's import would be a fifth of its start-up time.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from motes.errors import CardError
from motes.naming import look_up, nearest

METADATA_KEY = "motes"
"""The key under which a card is stored as JSON in ONNX metadata and in safetensors headers."""

MEASURED = (
    "data", "about", "split", "held_out", "protocol", "threshold", "target_threshold", "frames", "megapixels",
    "targets", "false_blobs", "iou", "niou", "pd", "fa", "false_alarms_per_megapixel", "precision", "recall", "f1",
    "auc", "hiou", "ap", "ap50", "miou", "map07", "map12", "score", "source",
)  # fmt: skip
"""What a row of ``Card.measured`` may hold."""

HELD_OUT = ("about", "protocol", "threshold", "frames", "megapixels", "false_blobs")
"""What a held-out row must hold beside ``data``."""

SCALING_METHODS = ("range", "bits", "percentile", "minmax", "maximum", "fixed", "robust")


@dataclass(frozen=True)
class Scaling:
    """How sensor counts become numbers near [0, 1]: always (counts - low) / (high - low).

    ``range``: the dtype's range (floats: 0 and 1). ``bits``: 0 and 2**bits - 1. ``fixed``: ``low`` and ``high`` counts.
    ``minmax``: the frame's own extremes. ``maximum``: 0 and the frame's own maximum. ``percentile``: its ``low``-th and
    ``high``-th percentile.
    ``robust``: median - ``low`` * s and median + ``high`` * s, where s is half the distance between the 16th and the
    84th percentile (one standard deviation of Gaussian noise), so a dead pixel or a hot source does not set the scale.
    ``clip`` limits the result to [0, 1].
    """

    method: str = "range"
    low: float | None = None
    high: float | None = None
    bits: int | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        look_up("scaling method", self.method, SCALING_METHODS, CardError)
        if self.method in ("percentile", "fixed", "robust") and (self.low is None or self.high is None):
            raise CardError(f"scaling '{self.method}' needs both low and high")
        if self.method == "bits" and not self.bits:
            raise CardError("scaling 'bits' needs bits, for instance 14")
        if self.method in ("percentile", "fixed") and not self.low < self.high:  # type: ignore[operator]
            raise CardError(f"scaling '{self.method}' needs low < high, found {self.low} and {self.high}")


@dataclass(frozen=True)
class InputSpec:
    """From sensor counts to the network's input: scaling, channels, then (x - mean) / std per channel.

    ``scaling`` is used for 8-bit images, ``scaling_deep`` for everything deeper (16-bit counts, floats).
    ``stride``: sides must be multiples of it; ``min_size``: no side may be shorter, ``max_size``: none may be longer
    (px; None: no limit). ``tile``: side of the square that inference runs at once on large frames (px).
    """

    channels: int = 3
    scaling: Scaling = Scaling("range")
    scaling_deep: Scaling = Scaling("robust", low=3.5, high=5.5, clip=True)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    stride: int = 1
    min_size: int = 1
    max_size: int | None = None
    tile: int = 512

    def __post_init__(self) -> None:
        if self.max_size is not None and self.max_size < -(-self.min_size // self.stride) * self.stride:
            raise CardError(f"input.max_size {self.max_size} is below the smallest side, min_size {self.min_size}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise CardError(f"input.{name} has {len(getattr(self, name))} values for {self.channels} channels")


@dataclass(frozen=True)
class BoxSpec:
    """How a detector's candidates become detections.

    ``score``: candidates need more than that. ``per_level``: at most so many of each level of the pyramid are kept.
    ``nms``: of two boxes of a class that overlap by more (IoU) only the better stays; None: all stay. ``keep``: at most
    so many of an image. ``vote``: each box becomes the weighted mean of the candidates around it.
    """

    score: float = 0.05
    nms: float | None = 0.5
    per_level: int = 1000
    keep: int = 100
    vote: bool = False

    def __post_init__(self) -> None:
        for name in ("score", "nms"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise CardError(f"boxes.{name} is between 0 and 1, found {value}")
        for name in ("per_level", "keep"):
            if getattr(self, name) < 1:
                raise CardError(f"boxes.{name} is at least 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class Card:
    """What a network is (``models/<name>.yaml``) and, for a weight file, what it was trained on and what it scored.

    ``published`` and ``measured`` are rows ``{data, split, protocol, iou, niou, pd, fa, ...}`` (IoU, Pd as fractions,
    Fa as a fraction of pixels). ``measured`` rows with ``held_out: true`` are of frames that the weights were neither
    trained nor selected on, other than a public test split: ``data`` names them, ``about`` says in words what they are,
    ``targets`` is ``"found/all"`` (left out where there are none), ``false_blobs`` a count over ``frames`` and
    ``megapixels``. ``calibration`` is ``{data, frames, threshold: [...], fa_per_mpx: [...], pd: [...]}``
    with thresholds ascending. ``training`` is ``{data, split, recipe, seed, epochs, ...}``. ``complexity`` is
    ``{form: {params, macs_256}}`` as ``motes bench`` counts them (MACs of the convolutions, one 256x256 frame;
    ``macs_512`` of what takes none so small).
    ``boxes`` is of detectors (``task: detection``) alone.
    """

    name: str
    task: str
    title: str = ""
    class_name: str = ""
    paper: str = ""
    venue: str = ""
    year: int = 0
    url: str = ""
    doi: str = ""
    variant: str | None = None
    form: str = "train"
    variants: tuple[str, ...] = ()
    input: InputSpec = InputSpec()
    boxes: BoxSpec = BoxSpec()
    classes: tuple[str, ...] = ("target",)
    threshold: float = 0.5
    options: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[Mapping[str, Any], ...] = ()
    complexity: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[Mapping[str, Any], ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    source_sha256: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.measured, 1):
            _check_measured(row, f"card.measured, row {number}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "card") -> Card:
        """Raises CardError on an unknown or missing field, naming the nearest known one."""
        card: Card = _build(cls, values, where)
        return card

    @classmethod
    def from_json(cls, text: str, where: str = "card") -> Card:
        """Raises CardError if ``text`` is not a JSON object with a card's fields."""
        try:
            values = json.loads(text)
        except ValueError as e:
            raise CardError(f"{where}: its card is not JSON: {e}") from None
        return cls.from_dict(values, where)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only; fields that still have their default are left out."""
        return _plain(self)

    def to_json(self) -> str:
        """The text that goes into ONNX metadata and safetensors headers."""
        return json.dumps(self.to_dict())

    def replace(self, **changes: Any) -> Card:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def _check_measured(row: Any, where: str) -> None:
    if not isinstance(row, Mapping):
        raise CardError(f"{where}: expected a mapping, found {type(row).__name__}")
    for key in row:
        if key not in MEASURED:
            close = nearest(key, MEASURED)
            raise CardError(f"{where}: unknown field '{key}'", f"did you mean '{close}'?" if close else None)
    if not isinstance(row.get("held_out", False), bool):
        raise CardError(f"{where}: held_out is true or false, found {row['held_out']!r}")
    if not row.get("held_out"):
        return
    if missing := [key for key in ("data", *HELD_OUT) if key not in row]:
        raise CardError(f"{where}: a held-out row needs {', '.join(missing)}")
    for key, least in (("frames", 1), ("megapixels", 0), ("false_blobs", 0), ("threshold", 0)):
        if isinstance(row[key], bool) or not isinstance(row[key], int | float) or row[key] < least:
            raise CardError(f"{where}: {key} is a number from {least} on, found {row[key]!r}")
    if ("pd" in row) != ("targets" in row):
        raise CardError(f"{where}: pd and targets go together", "leave both out where the frames hold no target")
    if "targets" in row and not re.fullmatch(r"\d+/[1-9]\d*", str(row["targets"])):
        raise CardError(f"{where}: targets are 'found/all', for instance 39/56, found {row['targets']!r}")


def _build(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise CardError(f"{where}: expected a mapping, found {type(values).__name__}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    made = {}
    for key, value in values.items():
        if key not in fields:
            close = nearest(key, fields)
            raise CardError(f"{where}: unknown field '{key}'", f"did you mean '{close}'?" if close else None)
        if key == "input":
            value = _build(InputSpec, value, f"{where}.input")
        elif key == "boxes":
            value = _build(BoxSpec, value, f"{where}.boxes")
        elif key in ("scaling", "scaling_deep"):
            value = _build(Scaling, value, f"{where}.{key}")
        elif isinstance(value, list):
            value = tuple(value)
        made[key] = value
    try:
        return cls(**made)
    except TypeError as e:
        raise CardError(f"{where}: {e}") from None


def _plain(instance: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in dataclasses.fields(instance):
        value = getattr(instance, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if value == default:
            continue
        if dataclasses.is_dataclass(value):
            value = _plain(value)
        elif isinstance(value, tuple):
            value = [dict(v) if isinstance(v, Mapping) else v for v in value]
        elif isinstance(value, Mapping):
            value = dict(value)
        out[f.name] = value
    return out


@cache
def _card_names() -> tuple[str, ...]:
    folder = resources.files("motes") / "models"  # not "motes.models": that would import torch
    return tuple(sorted(p.name[: -len(".yaml")] for p in folder.iterdir() if p.name.endswith(".yaml")))


def list_models(task: str | None = None, pattern: str = "*") -> list[str]:
    """Names of the networks whose card has this ``task`` and whose name matches the shell ``pattern``; imports none."""
    names = fnmatch.filter(_card_names(), pattern)
    return [n for n in names if task is None or model_card(n).task == task]


@cache
def model_card(name: str) -> Card:
    """The card of a network; raises CardError with the nearest name if there is none."""
    look_up("model", name, _card_names(), CardError)
    import yaml

    text = (resources.files("motes") / "models" / f"{name}.yaml").read_text(encoding="utf-8")
    return Card.from_dict({"name": name, **yaml.safe_load(text)}, f"models/{name}.yaml")
