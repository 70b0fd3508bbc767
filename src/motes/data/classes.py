"""The classes of aerial data sets: names, colours and stored values, by id.

Inside motes a label is an id: [H, W] uint8, background 0, 255 ignored. What files hold instead (colours, the 255 that
is a class in the GaoFen contest) is said by a `ClassTable` and turned into ids by `motes.data.labels`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from motes.errors import DataError
from motes.naming import look_up

Colour = tuple[int, int, int]
LIST_SUFFIXES = (".txt", ".yaml", ".yml")


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set in the order of their ids.

    Attributes:
        name: of the table.
        names: of the classes; the id is the place, 0 is the background where there is one.
        colours: (R, G, B) of each class, no two alike.
        ignore: the id of pixels that count nowhere.
        values: stored grey value -> id where the two differ; None where grey files hold ids.
        ignore_colour: the colour of pixels that count nowhere, where the data set has one.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignore: int = 255
    values: Mapping[int, int] | None = field(default=None, hash=False)
    ignore_colour: Colour | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 1 <= count <= 254:
            raise DataError(f"class table '{self.name}' has {count} classes, expected 1 to 254")
        if len(self.colours) != count:
            raise DataError(f"class table '{self.name}' has {count} names and {len(self.colours)} colours")
        for what, entries in (("name", self.names), ("colour", self.colours)):
            twice = [e for i, e in enumerate(entries) if e in entries[:i]]
            if twice:
                raise DataError(f"class table '{self.name}' has the {what} {twice[0]} twice")
        if any(not 0 <= c <= 255 for colour in self.colours for c in colour):
            raise DataError(f"class table '{self.name}' has a colour outside 0 to 255")
        if self.ignore < count or self.ignore > 255:
            raise DataError(f"class table '{self.name}' ignores id {self.ignore}, expected {count} to 255")
        bad = [v for v in (self.values or {}).values() if v >= count and v != self.ignore]
        if bad:
            raise DataError(f"class table '{self.name}' stores a value for id {bad[0]}, but has {count} classes")

    @property
    def num_classes(self) -> int:
        """All classes, the background too."""
        return len(self.names)


def class_table(source: str | Path | ClassTable) -> ClassTable:
    """A table by its name (``isaid``, ``potsdam``, ...) or from a class list file.

    A text file has one class a line in the order of ids: the name, and behind it three numbers where it has a colour
    (``ship 0 0 63``); lines that start with ``#`` are remarks. A YAML file has a list of names, a mapping of names to
    ``[R, G, B]``, or a mapping with ``classes`` (one of those), ``ignore``, ``values`` and ``ignore_colour`` as in
    `ClassTable`. Classes without a colour get one.

    Raises:
        DataError: no such table or file, or a file that is no class list.
    """
    if isinstance(source, ClassTable):
        return source
    path = Path(source)
    if path.suffix.lower() in LIST_SUFFIXES:
        return _read(path)
    return TABLES[look_up("class table", str(source), TABLES, DataError)]


def as_yaml(table: ClassTable) -> str:
    """The text of a class list that `class_table` reads as an equal table."""
    import yaml

    content: dict[str, Any] = {"name": table.name, "ignore": table.ignore}
    if table.ignore_colour is not None:
        content["ignore_colour"] = list(table.ignore_colour)
    if table.values is not None:
        content["values"] = dict(table.values)
    content["classes"] = {n: list(c) for n, c in zip(table.names, table.colours, strict=True)}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """``count`` (at most 256) colours that differ, 0 black: those of PASCAL VOC, whose bits are dealt out in turn."""
    ids = np.arange(count)
    colours = np.zeros((count, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (ids >> (3 * bit + channel) & 1) << (7 - bit)
    return tuple((int(r), int(g), int(b)) for r, g, b in colours)


def _read(path: Path) -> ClassTable:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"no such class list: {path}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a class list: it is no text") from None
    options: dict[str, Any] = {"name": path.stem}
    if path.suffix.lower() == ".txt":
        found = [_line(path, n, line) for n, line in enumerate(text.splitlines(), 1)]
        classes: list[tuple[str, Colour | None]] = [c for c in found if c is not None]
    else:
        classes, more = _yaml(path, text)
        options |= more
    if not classes:
        raise DataError(f"{path} lists no class", "one name a line, the background first")
    return ClassTable(names=tuple(n for n, _ in classes), colours=_filled([c for _, c in classes]), **options)


def _line(path: Path, number: int, line: str) -> tuple[str, Colour | None] | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    found = re.fullmatch(r"(.+?)[\s,;:]+\[?\(?(\d+)[\s,;]+(\d+)[\s,;]+(\d+)\)?\]?", line)
    if found is None:
        return line, None
    return found[1].strip(), _colour(f"{path}, line {number}", [int(v) for v in found.groups()[1:]])


def _yaml(path: Path, text: str) -> tuple[list[tuple[str, Colour | None]], dict[str, Any]]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise DataError(f"{path} is not YAML: {' '.join(str(e).split())[:120]}") from None
    options: dict[str, Any] = {}
    if isinstance(content, dict) and "classes" in content:
        for key in content:
            look_up("key", str(key), ("name", "classes", "ignore", "values", "ignore_colour"), DataError)
        options = {k: content[k] for k in ("name", "ignore") if k in content}
        if content.get("ignore_colour") is not None:
            options["ignore_colour"] = _colour(f"{path}, ignore_colour", content["ignore_colour"])
        if content.get("values") is not None:
            options["values"] = _values(path, content["values"])
        if not isinstance(options.get("ignore", 255), int):
            raise DataError(f"{path}: ignore is {options['ignore']!r}, expected an id")
        content = content["classes"]
    if isinstance(content, dict):
        return [(str(n), None if c is None else _colour(f"{path}, {n}", c)) for n, c in content.items()], options
    if isinstance(content, list) and all(isinstance(n, (str, int)) for n in content):
        return [(str(n), None) for n in content], options
    raise DataError(f"{path} is not a class list", "a list of names, or a mapping of names to [R, G, B]")


def _values(path: Path, values: Any) -> dict[int, int]:
    good = isinstance(values, dict) and all(
        isinstance(k, int) and isinstance(v, int) and 0 <= k <= 255 and 0 <= v <= 255 for k, v in values.items()
    )
    if not good:
        raise DataError(f"{path}: values is {values!r}, expected a mapping of grey values to ids", "{0: 0, 255: 1}")
    return dict(values)


def _colour(where: str, values: Any) -> Colour:
    good = isinstance(values, Sequence) and len(values) == 3 and all(isinstance(v, int) for v in values)
    if not good or any(not 0 <= v <= 255 for v in values):
        raise DataError(f"{where}: the colour is {values!r}, expected three numbers from 0 to 255")
    return int(values[0]), int(values[1]), int(values[2])


def _filled(colours: Sequence[Colour | None]) -> tuple[Colour, ...]:
    """The colours, with one that nobody has where there is none."""
    taken = {c for c in colours if c is not None}
    free = iter(c for c in distinct_colours(256) if c not in taken)
    return tuple(next(free) if c is None else c for c in colours)


def _isaid() -> ClassTable:
    """Ids and colours of the iSAID devkit (Waqas Zamir et al., CVPR Workshops 2019), background as class 0."""
    classes: dict[str, Colour] = {
        "background": (0, 0, 0),
        "ship": (0, 0, 63),
        "storage_tank": (0, 63, 63),
        "baseball_diamond": (0, 63, 0),
        "tennis_court": (0, 63, 127),
        "basketball_court": (0, 63, 191),
        "Ground_Track_Field": (0, 63, 255),
        "Bridge": (0, 127, 63),
        "Large_Vehicle": (0, 127, 127),
        "Small_Vehicle": (0, 0, 127),
        "Helicopter": (0, 0, 191),
        "Swimming_pool": (0, 0, 255),
        "Roundabout": (0, 191, 127),
        "Soccer_ball_field": (0, 127, 191),
        "plane": (0, 127, 255),
        "Harbor": (0, 100, 155),
    }
    return ClassTable("isaid", tuple(classes), tuple(classes.values()))


def _exchanged(table: ClassTable, a: int, b: int, name: str) -> ClassTable:
    order = list(range(table.num_classes))
    order[a], order[b] = b, a
    return ClassTable(name, tuple(table.names[i] for i in order), tuple(table.colours[i] for i in order))


def _isprs(name: str) -> ClassTable:
    """The six classes of the ISPRS 2D semantic labelling benchmark. Its eroded masks have black borders: not scored."""
    classes: dict[str, Colour] = {
        "impervious_surface": (255, 255, 255),
        "building": (0, 0, 255),
        "low_vegetation": (0, 255, 255),
        "tree": (0, 255, 0),
        "car": (255, 255, 0),
        "clutter": (255, 0, 0),
    }
    return ClassTable(name, tuple(classes), tuple(classes.values()), ignore_colour=(0, 0, 0))


def _gaofen(track: str, target: str) -> ClassTable:
    """GaoFen contest 2021: 255 in a file is class 1, never ignored. 1 is read too: that is how ids are written."""
    names = ("background", target)
    return ClassTable(f"gaofen-{track}", names, ((0, 0, 0), (255, 255, 255)), values={0: 0, 1: 1, 255: 1})


TABLES: dict[str, ClassTable] = {
    "isaid": _isaid(),
    # FarSeg and FactSeg give id 2 to roundabouts and id 12 to storage tanks (and call them the other way round).
    "isaid-factseg": _exchanged(_isaid(), 2, 12, "isaid-factseg"),
    "potsdam": _isprs("potsdam"),
    "vaihingen": _isprs("vaihingen"),
    "gaofen-img": _gaofen("img", "ice"),
    "gaofen-sar": _gaofen("sar", "farm"),
}
