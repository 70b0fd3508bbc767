"""Scores of class maps against labels: one confusion matrix, kept per image in exact integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from motes.errors import DataError
from motes.metrics.class_formulas import ClassFormulas
from motes.metrics.components import Components, components
from motes.metrics.formulas import Value

BANDS: dict[str, tuple[int, int | None]] = {
    "tiny": (1, 12**2),
    "small": (12**2, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, None),
}
"""Size bands of objects: area in px from the first number up to, without, the second. 144 and 1024 px are the borders
of iSAID's own size classes, 32**2 and 96**2 those of COCO."""

FOUND = 0.5
"""An object is found when at least this part of its pixels is predicted as its class."""

_CHUNK = 1 << 22  # pixels whose class pairs are counted at a time: bounds the memory of 64-bit indices


class ClassScore:
    """Accumulates images and computes IoU, precision, recall and F1 a class, their means, OA, fwIoU, object recall.

    Everything is a function of per-image integers (int64: no sum saturates), so neither the order of images, nor the
    batches they came in, nor how they were spread over processes changes any value or interval.

    **Means** are over the classes that occur, in the labels or in the predictions; a class that occurs in neither has
    no value (None) and is left out, which `facts` says. A class that is predicted but never labelled has IoU 0.

    **Objects** are the 8-connected components of a label's pixels of one class, background left out; touching objects
    of one class count as one. `FOUND` says when one is found, `BANDS` into which band its area puts it.

    Args:
        names: of all classes in the order of their ids, the background's among them; or how many there are.
        ignore: label of pixels that are not scored.
        background: id left out of ``miou_foreground`` and of the objects; None where all classes are alike.
        resamples: bootstrap resamples behind the intervals.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        names: Sequence[str] | int,
        ignore: int = 255,
        *,
        background: int | None = 0,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.names = tuple(f"class {i}" for i in range(names)) if isinstance(names, int) else tuple(map(str, names))
        self.ignore, self.background = ignore, background
        self.resamples, self.seed = resamples, seed
        n = len(self.names)
        if not 2 <= n <= 255 or len(set(self.names)) < n:
            raise DataError(f"found {n} class names, expected 2 to 255 different ones")
        if 0 <= ignore < n or (background is not None and not 0 <= background < n):
            raise DataError(
                f"ids of {n} classes are 0 to {n - 1}; found {ignore} for ignored pixels and {background} as background"
            )
        self.reset()

    def reset(self) -> None:
        """Forget every image."""
        self._images: list[str] = []
        self._confusion: list[np.ndarray] = []
        self._objects: list[np.ndarray] = []
        self._ignored: list[int] = []

    def __len__(self) -> int:
        return len(self._confusion)

    @property
    def images(self) -> list[str]:
        """Names of the images, in the order they came."""
        return list(self._images)

    @property
    def confusion(self) -> np.ndarray:
        """int64 [K, K] over all images: pixels by their label (rows) and their prediction (columns)."""
        k = len(self.names)
        total: np.ndarray = np.zeros((k, k), np.int64)
        for counts in self._confusion:
            total += counts
        return total

    def update(self, prediction: np.ndarray, label: np.ndarray, name: str | Sequence[str] | None = None) -> None:
        """Add one image, or a batch of them: every item of a batch counts as an image of its own.

        Args:
            prediction: [H, W] or [B, H, W] class ids, any integer dtype.
            label: the same shape; ``ignore`` where a pixel is not scored.
            name: for the per-image table; a sequence for a batch.

        Raises:
            DataError: other shapes or dtypes, or an id that is no class.
        """
        prediction, label = np.asarray(prediction), np.asarray(label)
        batch = prediction.ndim == 3
        names: list[str] = [name or ""] if name is None or isinstance(name, str) else list(name)
        if batch and len(names) != len(prediction):
            if name is not None:
                raise DataError(f"{len(names)} names for a batch of {len(prediction)} images")
            names = [""] * len(prediction)
        if prediction.shape != label.shape or prediction.ndim not in (2, 3):
            where = f" of '{names[0]}'" if names and names[0] else ""
            raise DataError(
                f"the prediction{where} is {_size(prediction)} and its label {_size(label)}, expected the same [H, W]",
                "class maps are never resized here: resize before scoring",
            )
        pairs = zip(prediction, label, names, strict=True) if batch else [(prediction, label, names[0])]
        for one, truth, called in pairs:
            self._add(self._ids(one, "prediction", called), self._ids(truth, "label", called), called)

    def merge(self, other: ClassScore) -> ClassScore:
        """Add the images of ``other`` (same classes); returns self.

        A score that has seen nothing takes over which class is the background.
        """
        if not len(self):
            self.background = other.background
        mine, theirs = ((*s.names, str(s.ignore), str(s.background)) for s in (self, other))
        if mine != theirs:
            raise DataError(
                f"cannot merge scores of classes {', '.join(self.names)} and {', '.join(other.names)}",
                "score every shard with the same class table",
            )
        self._images += other._images
        self._confusion += other._confusion
        self._objects += other._objects
        self._ignored += other._ignored
        return self

    def compute(self, intervals: bool = True) -> dict[str, Value]:
        """Every metric by key. Without ``intervals`` the bootstrap is skipped (validation while training).

        Keys: ``miou`` over all classes, ``miou_foreground`` without the background, ``oa``, ``fwiou``, ``mprecision``,
        ``mrecall``, ``mf1``, ``object_recall`` and ``object_recall/<band>``, then ``iou/<class>``,
        ``precision/<class>``, ``recall/<class>`` and ``f1/<class>``. Intervals are bootstrapped over images, those of
        object recall are Wilson's.
        """
        state = self.state()
        return ClassFormulas(
            self.names, self.background, tuple(BANDS), state["confusion"], state["objects"],
            self.resamples if intervals else 0, self.seed,
        ).values()  # fmt: skip

    @property
    def COLUMNS(self) -> tuple[str, ...]:  # noqa: N802 - a constant of SegmentationScore, here a function of the classes
        """Columns of `per_image`."""
        iou = tuple(f"iou/{name}" for name in self.names)
        return ("image", "pixels", "ignored", "foreground", "oa", "miou", "objects", "objects_found", *iou)

    def per_image(self) -> list[dict[str, float | str | None]]:
        """One row an image, by name. ``miou`` is the mean over the classes that occur in that image."""
        rows: list[dict[str, float | str | None]] = []
        records = zip(self._images, self._confusion, self._objects, self._ignored, strict=True)
        for name, c, objects, ignored in sorted(records, key=lambda r: r[0]):
            tp, truth, found = np.diag(c), c.sum(axis=1), c.sum(axis=0)
            union = truth + found - tp
            iou = [t / u if u else None for t, u in zip(tp.tolist(), union.tolist(), strict=True)]
            known = [v for v in iou if v is not None]
            pixels = int(c.sum())
            rows.append(
                {
                    "image": name,
                    "pixels": pixels,
                    "ignored": ignored,
                    "foreground": pixels - (0 if self.background is None else int(truth[self.background])),
                    "oa": int(tp.sum()) / pixels if pixels else None,
                    "miou": sum(known) / len(known) if known else None,
                    "objects": int(objects[:, 1].sum()),
                    "objects_found": int(objects[:, 0].sum()),
                    **{f"iou/{n}": v for n, v in zip(self.names, iou, strict=True)},
                }
            )
        return rows

    def facts(self) -> dict[str, Any]:
        """What was scored and by which rules, for ``run`` in metrics.json."""
        c = self.confusion
        truth, occurring = c.sum(axis=1), c.sum(axis=1) + c.sum(axis=0)
        back = self.background
        empty = [back is not None and not np.delete(m.sum(axis=1), back).any() for m in self._confusion]
        return {
            "classes": list(self.names),
            "ignore": self.ignore,
            "background": None if back is None else self.names[back],
            "images": len(self),
            "images_without_foreground": sum(map(bool, empty)),
            "pixels": int(c.sum()),
            "pixels_ignored": sum(self._ignored),
            "label_pixels": dict(zip(self.names, truth.tolist(), strict=True)),
            "absent_classes": [n for n, pixels in zip(self.names, occurring.tolist(), strict=True) if not pixels],
            "object_bands": {band: list(limits) for band, limits in BANDS.items()},
            "object_found_at": FOUND,
            "objects": int(sum(int(o[:, 1].sum()) for o in self._objects)),
        }

    def state(self) -> dict[str, np.ndarray]:
        """Everything counted so far, as plain arrays: gather it from every process, save it by ``numpy.savez``."""
        k = len(self.names)
        return {
            "classes": np.array(self.names, dtype=np.str_),
            "ignore": np.array([self.ignore, -1 if self.background is None else self.background], np.int64),
            "images": np.array(self._images, dtype=np.str_),
            "confusion": np.stack(self._confusion) if len(self) else np.zeros((0, k, k), np.int64),
            "objects": np.stack(self._objects) if len(self) else np.zeros((0, len(BANDS), 2), np.int64),
            "ignored": np.array(self._ignored, np.int64),
        }

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> ClassScore:
        """The score whose `state` this is."""
        ignore, background = (int(v) for v in state["ignore"])
        score = cls([str(n) for n in state["classes"]], ignore, background=None if background < 0 else background)
        score._images = [str(n) for n in state["images"]]
        score._confusion = list(np.asarray(state["confusion"], np.int64))
        score._objects = list(np.asarray(state["objects"], np.int64))
        score._ignored = [int(n) for n in state["ignored"]]
        return score

    def _add(self, prediction: np.ndarray, label: np.ndarray, name: str) -> None:
        k = len(self.names)
        counts = np.zeros(256 * k, np.int64)
        flat, truth = prediction.ravel(), label.ravel()
        for start in range(0, flat.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            pairs = truth[part].astype(np.uint16)
            pairs *= np.uint16(k)
            pairs += flat[part]
            counts += np.bincount(pairs, minlength=256 * k)
        table = counts.reshape(256, k)
        strange = [i for i in np.flatnonzero(table.sum(axis=1)).tolist() if i >= k and i != self.ignore]
        if strange:
            raise DataError(
                f"the label{f' of {name!r}' if name else ''} holds the id {strange[0]}, "
                f"expected 0 to {k - 1}, or {self.ignore} for pixels that are not scored",
                "is it a mask of other classes, or one of colours?",
            )
        self._confusion.append(table[:k].copy())
        self._objects.append(self._found_objects(prediction, label, np.flatnonzero(table[:k].sum(axis=1))))
        self._ignored.append(int(table[self.ignore].sum()) if self.ignore < 256 else 0)
        self._images.append(name)

    def _found_objects(self, prediction: np.ndarray, label: np.ndarray, present: np.ndarray) -> np.ndarray:
        """int64 [bands, 2]: found objects and objects."""
        limits = np.array([low for low, _ in BANDS.values()][1:])
        counts = np.zeros((len(BANDS), 2), np.int64)
        for c in present.tolist():
            if c == self.background:
                continue
            objects, found = found_objects(prediction, label, c)
            band = np.searchsorted(limits, objects.areas, side="right")
            counts[:, 0] += np.bincount(band[found], minlength=len(BANDS))
            counts[:, 1] += np.bincount(band, minlength=len(BANDS))
        return counts

    def _ids(self, ids: np.ndarray, what: str, name: str) -> np.ndarray:
        """The array as uint8; ids of predictions are checked here, those of labels once they are counted."""
        where = f"the {what}{f' of {name!r}' if name else ''}"
        if ids.dtype.kind not in "iub":
            raise DataError(f"{where} is {ids.dtype}, expected integer class ids", "take the argmax of logits first")
        if not ids.size:
            raise DataError(f"{where} has no pixels")
        low, high = int(ids.min()), int(ids.max())
        top = len(self.names) - 1 if what == "prediction" else 255
        if low < 0 or high > top:
            raise DataError(f"{where} holds the id {low if low < 0 else high}, expected 0 to {top}")
        return ids.astype(np.uint8, copy=False)


def found_objects(prediction: np.ndarray, label: np.ndarray, c: int) -> tuple[Components, np.ndarray]:
    """The objects of class ``c`` in a label [H, W], and which of them are found: bool [N]."""
    objects = components(label == c)
    right = (prediction.ravel()[objects.pixels] == c).astype(np.float64)
    hits = np.bincount(objects.owners, weights=right, minlength=len(objects))
    return objects, hits >= FOUND * objects.areas


def _size(array: np.ndarray) -> str:
    return "x".join(str(n) for n in array.shape) or "a single number"
