"""Which splits of a data set belong together, and which of them must not share images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

ROLES = {
    "train": "train",
    "training": "train",
    "trainval": "trainval",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "trainvaltest": "all",
    "all": "all",
}


def role(split: str) -> tuple[str, str]:
    """The role and the family of a split by its name: ``test_v1`` is ("test", "v1"), ``50_50/train`` is
    ("train", "50_50"). The role is empty where the name holds none."""
    folder, _, name = split.rpartition("/")
    words = name.split("_")
    found = next((w for w in words if w.lower() in ROLES), None)
    if found is None:
        return "", split
    words.remove(found)
    return ROLES[found.lower()], "/".join(p for p in (folder, "_".join(words)) if p)


def disjoint_pairs(splits: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Pairs of splits of one family that must not share images.

    Where trainval holds all of train and of val, only it is paired with test.
    """
    families: dict[str, dict[str, str]] = {}
    for split in splits:
        r, family = role(split)
        families.setdefault(family, {})[r] = split
    pairs = []
    for family_splits in families.values():
        wanted = [("train", "val")]
        whole = set(splits[family_splits["trainval"]]) if "trainval" in family_splits else set()
        wanted += [
            (r, "test")
            for r in ("train", "val", "trainval")
            if r in family_splits and (r == "trainval" or not set(splits[family_splits[r]]) <= whole)
        ]
        pairs += [(family_splits[a], family_splits[b]) for a, b in wanted if a in family_splits and b in family_splits]
    return pairs


def foreign_pairs(splits: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """(training split, test split) of different families: weights of the one must not be tested with the other."""
    roles = {s: role(s) for s in splits}
    covered = {family for r, family in roles.values() if r == "trainval"}
    return [
        (a, b)
        for a, (role_a, family_a) in roles.items()
        for b, (role_b, family_b) in roles.items()
        if (role_a == "trainval" or (role_a == "train" and family_a not in covered))
        and role_b == "test"
        and family_a != family_b
    ]
