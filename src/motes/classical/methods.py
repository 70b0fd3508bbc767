"""The table of training-free methods, and the backend that runs one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from motes.cards import Card, InputSpec, Scaling
from motes.classical.ipi import ipi
from motes.classical.lcm import lcm
from motes.classical.max_mean import max_mean
from motes.classical.max_median import max_median
from motes.classical.mpcm import mpcm
from motes.classical.nram import nram
from motes.classical.options import Option, flag, number, odd, one_of, pairs, several, whole
from motes.classical.patches import too_large
from motes.classical.pstnn import pstnn
from motes.classical.ript import ript
from motes.classical.rlcm import rlcm
from motes.classical.rules import Rule, mean_std, threshold_rule
from motes.classical.tllcm import tllcm
from motes.classical.tophat import top_hat
from motes.classical.wslcm import wslcm
from motes.errors import CardError
from motes.naming import look_up

COUNTS = InputSpec(channels=1, scaling=Scaling("fixed", 0, 1), scaling_deep=Scaling("fixed", 0, 1), tile=1 << 20)
"""Counts as they are in the file, and always the whole frame: the threshold rule needs the frame's mean and std."""

GREY = InputSpec(
    channels=1,
    scaling=Scaling("range"),
    scaling_deep=Scaling("robust", low=4.0, high=6.0),
    std=(1 / 255,),
    tile=1 << 20,
)
"""For methods with constants in grey levels (0..255). 8-bit counts stay as they are; in deeper frames the median comes
to grey level 102 and one robust standard deviation to 25.5 of them, unclipped, so that a target keeps its contrast."""

_CELLS = "sides of a cell, px"
_LARGEST = "largest values averaged in a cell"
_PATCH = "side of a patch, px"
_STEP = "from patch to patch, px"
_BLOCK = "side of a block of a large frame, px"
_COMBINE = "what counts where patches overlap"
_BORDER = Option("symmetric", one_of("symmetric", "replicate"), "what lies outside the frame")


@dataclass(frozen=True)
class Method:
    """What a training-free method is: its function, its paper and its defaults.

    ``function`` takes an [H, W] frame and ``options`` by name, and returns the [H, W] float32 map. ``k`` is the default
    threshold, in standard deviations above the mean of the map (rules.py has others). ``input`` is COUNTS, or GREY for
    a method whose constants are grey levels. ``fits`` checks options against each other: it takes them by name and
    returns what is wrong ("step 20 is larger than patch 10"), or None. ``card`` is the method's card, so that it is
    listed and recorded like a network.
    """

    name: str
    title: str
    function: Callable[..., np.ndarray]
    k: float
    paper: str
    venue: str
    year: int
    options: Mapping[str, Option] = field(default_factory=dict)
    input: InputSpec = COUNTS
    fits: Callable[..., str | None] | None = None

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults, and what was ``given`` instead; raises CardError for a name or a value that is wrong."""
        for name in given:
            look_up(f"option of {self.name}", name, [*self.options, "k", "rule"], CardError)
        options = {n: o.value(f"{self.name}: {n}", given.get(n, o.default)) for n, o in self.options.items()}
        wrong = self.fits(**options) if self.fits else None
        if wrong:
            raise CardError(f"{self.name}: {wrong}")
        return options

    @property
    def card(self) -> Card:
        """The card: one class, threshold 0.5 = mean + k std."""
        return Card(
            name=self.name,
            task="irstd",
            title=self.title,
            paper=self.paper,
            venue=self.venue,
            year=self.year,
            form="classical",
            input=self.input,
            options={**self.read({}), "rule": mean_std(self.k).name},
        )

    @property
    def published(self) -> tuple[Mapping[str, Any], ...]:
        """What others published of it: rows as in a network's card, from ``published.yaml``. Not in ``card``, which
        every detection reads."""
        return tuple(_published().get(self.name, ()))


# k: of 2, 3, 4, 5, 7, 10, 15, 20, 30, 40 the one with the best IoU among those that keep Pd within 0.03 of the best Pd
# at fewer than 100 false alarms per megapixel, on the 341 frames of SIRST's trainval_v1 at native size. Beside each k
# stand Pd and false alarms per megapixel there.
METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            name="tophat",
            title="Top-Hat",
            function=top_hat,
            k=7.0,  # Pd 0.93 at 192: lower than the rule above, for the sake of 16-bit targets (docs/detect.md)
            paper="Morphology-based algorithm for point target detection in infrared backgrounds",
            venue="Proc. SPIE 1954",
            year=1993,
            options={"size": Option(5, odd(), "side of the square, px")},
        ),
        Method(
            name="max-median",
            title="Max-Median",
            function=max_median,
            k=20.0,  # Pd 0.82 at 121, for lines of 5 px (docs/detect.md has others)
            paper="Max-mean and max-median filters for detection of small targets",
            venue="Proc. SPIE 3809",
            year=1999,
            options={
                "size": Option(5, odd(), "samples in a line"),
                "positive": Option(True, flag, "cut the map at 0"),
                "border": _BORDER,
                "diagonals": Option("both", one_of("both", "anti"), "diagonal lines used"),
            },
        ),
        Method(
            name="max-mean",
            title="Max-Mean",
            function=max_mean,
            k=15.0,  # Pd 0.93 at 87
            paper="Max-mean and max-median filters for detection of small targets",
            venue="Proc. SPIE 3809",
            year=1999,
            options={
                "size": Option(5, odd(), "samples in a line"),
                "positive": Option(True, flag, "cut the map at 0"),
                "border": _BORDER,
            },
        ),
        Method(
            name="lcm",
            title="LCM",
            function=lcm,
            k=3.0,  # Pd 0.79 at 18
            paper="A local contrast method for small infrared target detection",
            venue="IEEE Transactions on Geoscience and Remote Sensing 52(1)",
            year=2014,
            options={"sizes": Option((3, 5, 7, 9), several(odd()), _CELLS), "border": _BORDER},
        ),
        Method(
            name="mpcm",
            title="MPCM",
            function=mpcm,
            k=15.0,  # Pd 0.91 at 19
            paper="Multiscale patch-based contrast measure for small infrared target detection",
            venue="Pattern Recognition 58",
            year=2016,
            options={
                "sizes": Option((3, 5, 7, 9), several(odd()), _CELLS),
                "border": _BORDER,
                "bright": Option(False, flag, "bright targets only"),
            },
        ),
        Method(
            name="rlcm",
            title="RLCM",
            function=rlcm,
            k=7.0,  # Pd 0.88 at 21
            paper="Infrared small target detection utilizing the multiscale relative local contrast measure",
            venue="IEEE Geoscience and Remote Sensing Letters 15(4)",
            year=2018,
            options={
                "size": Option(9, odd(), "side of a cell, px"),
                "pairs": Option(((2, 4), (5, 9), (9, 16)), pairs(whole(1)), _LARGEST + ": inner, outer"),
            },
            fits=lambda size, pairs: _in_cell(max(max(pair) for pair in pairs), size),
        ),
        Method(
            name="tllcm",
            title="TLLCM",
            function=tllcm,
            k=15.0,  # Pd 0.91 at 28
            paper="A local contrast method for infrared small-target detection utilizing a tri-layer window",
            venue="IEEE Geoscience and Remote Sensing Letters 17(10)",
            year=2020,
            options={
                "sizes": Option((5, 7, 9), several(odd()), _CELLS),
                "values": Option(9, whole(1), _LARGEST),
            },
            fits=lambda sizes, values: _in_cell(values, min(sizes)),
        ),
        Method(
            name="wslcm",
            title="WSLCM",
            function=wslcm,
            k=4.0,  # Pd 0.86 at 9
            paper="Infrared small target detection based on the weighted strengthened local contrast measure",
            venue="IEEE Geoscience and Remote Sensing Letters 18(9)",
            year=2021,
            input=GREY,
            options={
                "sizes": Option((5, 7, 9, 11), several(odd()), _CELLS),
                "values": Option(9, whole(1), _LARGEST),
                "floor": Option(5.0, number(above=0), "least deviation, grey levels"),
                "median": Option(True, flag, "a 3x3 median first"),
            },
            fits=lambda sizes, values, **_: _in_cell(values, min(sizes)),
        ),
        Method(
            name="ipi",
            title="IPI",
            function=ipi,
            k=15.0,  # on 25 of those frames, as for the three below: Pd 0.97 at 11
            paper="Infrared patch-image model for small target detection in a single image",
            venue="IEEE Transactions on Image Processing 22(12)",
            year=2013,
            options={
                "patch": Option(50, whole(2), _PATCH),
                "step": Option(10, whole(1), _STEP),
                "solver": Option("apg", one_of("apg", "alm"), "how the parts are found"),
                "combine": Option("median", one_of("median", "mean", "shifted"), _COMBINE),
                "border": Option("inside", one_of("inside", "flush"), "where the last patch ends"),
                "positive": Option(True, flag, "cut the map at 0"),
                "block": Option(640, whole(4), _BLOCK),
            },
            fits=too_large,
        ),
        Method(
            name="ript",
            title="RIPT",
            function=ript,
            k=20.0,  # Pd 1.00 at 37
            paper="Reweighted infrared patch-tensor model with both nonlocal and local priors for single-frame small "
            "target detection",
            venue="IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing 10(8)",
            year=2017,
            input=GREY,
            options={
                "patch": Option(30, whole(2), _PATCH),
                "step": Option(10, whole(1), _STEP),
                "combine": Option("mean", one_of("mean", "last", "median"), _COMBINE),
                "weight": Option(0.7, number(above=0), "of the sparse part"),
                "form": Option("authors", one_of("authors", "tensoristd"), "whose code"),
                "block": Option(1024, whole(4), _BLOCK),
            },
            fits=too_large,
        ),
        Method(
            name="nram",
            title="NRAM",
            function=nram,
            k=2.0,  # Pd 0.90 at 8; most of the map is 0, so that k changes little
            paper="Infrared small target detection via non-convex rank approximation minimization joint l2,1 norm",
            venue="Remote Sensing 10(11)",
            year=2018,
            options={
                "patch": Option(50, whole(2), _PATCH),
                "step": Option(10, whole(1), _STEP),
                "combine": Option("last", one_of("last", "mean", "median"), _COMBINE),
                "block": Option(640, whole(4), _BLOCK),
            },
            fits=too_large,
        ),
        Method(
            name="pstnn",
            title="PSTNN",
            function=pstnn,
            k=15.0,  # Pd 0.90 at 6
            paper="Infrared small target detection based on partial sum of the tensor nuclear norm",
            venue="Remote Sensing 11(4)",
            year=2019,
            input=GREY,
            options={
                "patch": Option(40, whole(2), _PATCH),
                "step": Option(40, whole(1), _STEP),
                "weight": Option(0.7, number(above=0), "of the sparse part"),
                "combine": Option("last", one_of("last", "mean", "median"), _COMBINE),
                "slices": Option("all", one_of("all", "istd"), "of the transformed tensor"),
                "block": Option(2048, whole(4), _BLOCK),
            },
            fits=too_large,
        ),
    )
}
"""Name -> method: filters, local contrast, low rank; each in the order of their years."""


class ClassicalBackend:
    """Runs one method as a backend: ``run(counts [B, 1, H, W]) -> logits [B, 1, H, W]``.

    Args:
        method: a line of ``METHODS``.
        k: the rule "mean+Kstd" with this K; None = the method's.
        rule: another threshold rule by name ("minmax_0.5", "lambda_0.7", ...: rules.py), instead of ``k``.
        options: settings of the method.

    Raises:
        CardError: an option the method does not have, or a value it cannot use.
    """

    def __init__(self, method: Method, k: float | None = None, rule: str | None = None, **options: Any) -> None:
        self.method = method
        self.options = method.read(options)
        self.rule = _rule(method, k, rule)
        self.card = method.card.replace(options={**self.options, "rule": self.rule.name})

    def response(self, image: np.ndarray) -> np.ndarray:
        """The method's own map of one [H, W] frame: what papers threshold."""
        return self.method.function(image, **self.options)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Counts [B, 1, H, W] float32 -> logits [B, 1, H, W] float32; every image by its own map."""
        return np.stack([self.rule.logits(self.response(frame))[None] for frame in batch[:, 0]])


def classical_backend(name: str, k: float | None = None, rule: str | None = None, **options: Any) -> ClassicalBackend:
    """The backend of a method by name; raises CardError naming the nearest method if there is none."""
    look_up("method", name, METHODS, CardError)
    return ClassicalBackend(METHODS[name], k, rule, **options)


@cache
def _published() -> Mapping[str, list[Mapping[str, Any]]]:
    import yaml

    rows: Mapping[str, list[Mapping[str, Any]]] = yaml.safe_load(
        resources.files("motes.classical").joinpath("published.yaml").read_text(encoding="utf-8")
    )
    return rows


def _rule(method: Method, k: float | None, rule: str | None) -> Rule:
    if rule is None:
        k = _K.value(f"{method.name}: k", method.k if k is None else k)
        return mean_std(k)
    if k is not None:
        raise CardError(f"{method.name}: both k and rule are given", f"write the rule as mean+{k}std, or leave one out")
    return threshold_rule(str(rule))


_K = Option(None, number(above=0), "standard deviations above the mean")


def _in_cell(values: int, size: int) -> str | None:
    return f"{values} largest values do not fit a cell of {size} x {size} px" if values > size * size else None
