"""What may be wrong with a data set."""

from __future__ import annotations

from dataclasses import dataclass

KINDS: dict[str, tuple[str, str]] = {
    "unreadable-image": ("error", "the image cannot be read"),
    "unreadable-mask": ("error", "the mask cannot be read"),
    "image-without-mask": ("error", "the image has no mask"),
    "size-mismatch": ("error", "image and mask differ in size"),
    "missing-id": ("error", "a list names an image that is not there"),
    "overlap": ("error", "splits that must be disjoint share images, by id or by content"),
    "image-without-boxes": ("error", "a data set of boxes has none for this image, not even an empty file"),
    "unreadable-boxes": ("error", "the boxes of an image without mask cannot be read"),
    "box-empty": ("error", "a box has no area"),
    "box-outside": ("error", "no pixel of the image lies in the box"),
    "sky-missing": ("error", "the set has sky maps, and this image has none"),
    "sky-size": ("error", "image and sky map differ in size"),
    "unreadable-sky": ("error", "the sky map cannot be read"),
    "unknown-colours": ("error", "the mask holds colours or values that are no class's"),
    "labels-collapsed": ("error", "the ids of the masks were lost when they were written"),
    "image-type": ("error", "the image is not 8-bit grey or RGB"),
    "missing-patch": ("error", "a prepared patch is no longer there"),
    "mask-without-image": ("warning", "the mask belongs to no image"),
    "hidden-image": ("warning", "another image of the same folder has the same stem and is the one used"),
    "mask-values": ("warning", "the mask has more than two values, so its edge is a matter of the threshold"),
    "mask-mostly-target": ("warning", "more than half of the mask is target: inverted?"),
    "duplicate-content": ("warning", "different images with equal pixels"),
    "repeated-id": ("warning", "a list names an image more than once"),
    "near-twins": ("warning", "splits that must be disjoint hold frames of one scene"),
    "box-mismatch": ("warning", "box and mask disagree"),
    "box-convention": ("warning", "the boxes of this image follow another corner convention than the set's"),
    "box-over-edge": ("warning", "a box reaches over the edge of the image, where it is cut"),
    "object-without-box": ("warning", "an object without a box, which is left out"),
    "annotation-size": ("warning", "the annotation tells another size than the image has"),
    "class-name": ("warning", "a rare class name that looks like a common one: mistyped?"),
    "point-mismatch": ("warning", "the number of points is not the number of targets"),
    "preparation-unfinished": ("warning", "motes data prepare was interrupted here"),
    "unreadable-annotation": ("warning", "a box or point file cannot be read"),
    "empty-mask": ("note", "the mask has no target"),
    "no-target": ("note", "the image has no box"),
    "one-pixel-target": ("note", "a target of a single pixel: labelled so, or left over from resizing?"),
    "class-absent": ("note", "no pixel of this class in the labelled images"),
    "unlabelled-split": ("note", "a split without masks, as distributed"),
    "patch-count": ("note", "how many patches there are, and how many the whole data set gives"),
    "overlap-elsewhere": ("note", "a training list holds images of another family's test list"),
}
"""Finding -> severity and meaning. An error makes training or scoring fail or lie; a warning needs a look; a note is
normal in some sets and good to know."""

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: a key of :data:`KINDS`.
        subject: the sample, file, list or pair of lists it is about.
        message: what was found, in one clause.
        names: the samples concerned.
    """

    kind: str
    subject: str
    message: str
    names: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        return KINDS[self.kind][0]
