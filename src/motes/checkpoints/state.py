"""What reading a weight file gives: the arrays by name, and what the file says beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class State(dict[str, np.ndarray]):
    """Name -> array under torch's names and layouts, whatever framework wrote the file.

    Attributes:
        format: who wrote it: ``torch``, ``safetensors``, ``paddle``, ``jittor``, ``gluon``, or ``pickle`` where a plain
            pickle of arrays does not tell.
        facts: numbers and texts stored beside the weights (``epoch``, ``mean_iu``, ...).
        assumed: names of matrices that were transposed because weights of linear layers are stored the other way round
            there, though the file does not say what layer they are of. ``load_published`` asks the network.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]] = (),
        format: str = "pickle",
        facts: Mapping[str, Any] | None = None,
        assumed: Iterable[str] = (),
    ) -> None:
        super().__init__(arrays)
        self.format = format
        self.facts = dict(facts or {})
        self.assumed = frozenset(assumed)

    def renamed(self, names: Mapping[str, str]) -> State:
        """The same under other names; a name that is not in ``names`` stays."""
        arrays = {names.get(name, name): value for name, value in self.items()}
        return State(arrays, self.format, self.facts, {names.get(name, name) for name in self.assumed})
