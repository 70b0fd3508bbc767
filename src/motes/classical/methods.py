"""The table of training-free methods, and the backend that runs one.

How a map becomes a probability: with m and s the mean and the (population) standard deviation of the method's map over
the frame, z = (map - m) / s and

    p = z / (z + k)  for z > 0, else 0          logit = log(z / k)

so p > 0.5 means exactly "map > m + k s", the rule of most published tables, and p > t means
"map > m + k t / (1 - t) s". A logistic of z - k would have the same threshold but is 1.0 in float32 for every strong
target, which makes them indistinguishable; this one keeps their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from motes.cards import Card, InputSpec, Scaling
from motes.classical.max_median import max_median
from motes.classical.options import Option, flag, odd
from motes.classical.tophat import top_hat
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

_FLOOR = 1e-6  # smallest z / k: keeps the logit finite where the map is at or below its mean


@dataclass(frozen=True)
class Method:
    """What a training-free method is: its function, its paper and its defaults.

    ``function`` takes an [H, W] frame and ``options`` by name, and returns the [H, W] float32 map. ``k`` is the
    threshold in standard deviations above the mean of the map. ``input`` is COUNTS, or GREY for a method whose
    constants are grey levels. ``fits`` checks options against each other: it takes them by name and returns what is
    wrong ("step 20 is larger than patch 10"), or None. ``card`` is the method's card, so that it is listed and
    recorded like a network.
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
            look_up(f"option of {self.name}", name, [*self.options, "k"], CardError)
        options = {n: o.value(f"{self.name}: {n}", given.get(n, o.default)) for n, o in self.options.items()}
        wrong = self.fits(**options) if self.fits else None
        if wrong:
            raise CardError(f"{self.name}: {wrong}")
        return options

    @property
    def card(self) -> Card:
        """The card: input in counts, one class, threshold 0.5 = mean + k std."""
        return Card(
            name=self.name,
            task="irstd",
            title=self.title,
            paper=self.paper,
            venue=self.venue,
            year=self.year,
            form="classical",
            input=self.input,
            options={**self.read({}), "k": self.k},
        )


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            name="tophat",
            title="Top-Hat",
            function=top_hat,
            k=7.0,  # on the 341 frames of SIRST's trainval_v1: Pd 0.93 at 192 false alarms per megapixel
            paper="Morphology-based algorithm for point target detection in infrared backgrounds",
            venue="Proc. SPIE 1954",
            year=1993,
            options={"size": Option(5, odd(), "side of the square, px")},
        ),
        Method(
            name="max-median",
            title="Max-Median",
            function=max_median,
            k=20.0,  # there: Pd 0.82 at 121 false alarms per megapixel
            paper="Max-mean and max-median filters for detection of small targets",
            venue="Proc. SPIE 3809",
            year=1999,
            options={
                "size": Option(5, odd(), "samples in a line"),
                "positive": Option(True, flag, "cut the map at 0"),
            },
        ),
    )
}
"""Name -> method, in the order of their years."""


class ClassicalBackend:
    """Runs one method as a backend: ``run(counts [B, 1, H, W]) -> logits [B, 1, H, W]``."""

    def __init__(self, method: Method, k: float | None = None, **options: Any) -> None:
        """Raises CardError for an option the method does not have, or a value it cannot use."""
        self.method = method
        self.options = method.read(options)
        self.k = float(method.k if k is None else k)
        if not self.k > 0:
            raise CardError(f"{method.name}: k counts standard deviations above the mean and must be > 0, found {k}")
        self.card = method.card.replace(options={**self.options, "k": self.k})

    def response(self, image: np.ndarray) -> np.ndarray:
        """The method's own map of one [H, W] frame, in counts: what papers threshold."""
        return self.method.function(image, **self.options)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Counts [B, 1, H, W] float32 -> logits [B, 1, H, W] float32; every image by its own mean and std."""
        return np.stack([self._logits(self.response(frame))[None] for frame in batch[:, 0]])

    def _logits(self, response: np.ndarray) -> np.ndarray:
        mean, std = float(response.mean(dtype=np.float64)), float(response.std(dtype=np.float64))
        if std == 0:  # a flat map holds no target
            return np.full(response.shape, np.log(_FLOOR), np.float32)
        excess = np.subtract(response, np.float32(mean), dtype=np.float32)
        excess *= np.float32(1.0 / (self.k * std))
        np.maximum(excess, np.float32(_FLOOR), out=excess)
        return np.asarray(np.log(excess, out=excess))


def classical_backend(name: str, k: float | None = None, **options: Any) -> ClassicalBackend:
    """The backend of a method by name; raises CardError naming the nearest method if there is none."""
    look_up("method", name, METHODS, CardError)
    return ClassicalBackend(METHODS[name], k, **options)
