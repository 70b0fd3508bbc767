"""Strict loading: every tensor of a file has its place in the network, every place in the network its tensor."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from motes.cards import list_models, model_card
from motes.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

SHOWN = 3  # names of each kind in an error
CANDIDATES = 3  # networks whose variants are all compared with a file that does not say what it is


def load_published(
    net: nn.Module, state: Mapping[str, Any], where: str = "these weights", absent: Sequence[str] = ()
) -> nn.Module:
    """Copies ``state`` into ``net``, strictly, and returns ``net``.

    The names are the network's own or the published ones; what the network's file says about them is applied:
    ``PUBLISHED_NAMES`` (pairs of regular expression and replacement), ``UNUSED_NAMES`` (regular expressions of tensors
    that the published network stores and never uses), ``from_published(state) -> state`` (where tensors are split or
    transposed). A prefix that all names share and the network does not know is stripped. Batch-norm counters may be
    missing: the oldest files and other frameworks have none. What ``read_state`` transposed without being told the type
    of the layer (``state.assumed``) is turned back where the network has no linear layer.

    Args:
        net: from ``create_model``.
        state: name -> array, as ``read_state`` gives it.
        where: the file, for the error message.
        absent: patterns (``*`` for any text) of names that may be missing, which keep what ``net`` has, or left over.

    Raises:
        CheckpointError: names left over on either side, or shapes that differ; says which network they fit better.
    """
    import torch

    own = net.state_dict()
    given = fitted(published_to_own(module_of(net), by_layer_type(net, state), where), own)
    extra = [n for n in given if n not in own and not matches(n, absent)]
    missing = [n for n in own if n not in given and not is_counter(n) and not matches(n, absent)]
    wrong = [n for n in given if n in own and tuple(np.shape(given[n])) != tuple(own[n].shape)]
    if extra or missing or wrong:
        raise mismatch(net, state, given, extra, missing, wrong, where)
    new = {name: as_tensor(torch, given[name], tensor) for name, tensor in own.items() if name in given}
    counters = {name: tensor * 0 for name, tensor in own.items() if name not in new and is_counter(name)}
    net.load_state_dict({**own, **counters, **new})
    return net


def as_tensor(torch: ModuleType, value: Any, like: Any) -> Any:
    tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
    return tensor.to(like.dtype)


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def by_layer_type(net: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """``state`` with the matrices turned back that were wrongly taken for weights of linear layers."""
    assumed = getattr(state, "assumed", frozenset())
    if not assumed:
        return state
    names = fitted({new: old for old, new in new_names(module_of(net), state).items()}, net.state_dict())
    others = {old for new, old in names.items() if new in net.state_dict()} & assumed
    others -= {old for new, old in names.items() if new in linear_weights(net)}
    return {name: np.ascontiguousarray(value.T) if name in others else value for name, value in state.items()}


def linear_weights(net: nn.Module) -> frozenset[str]:
    """Names of the weights of a network's linear layers, which other frameworks store transposed."""
    from torch import nn

    return frozenset(
        f"{name}.weight" if name else "weight" for name, m in net.named_modules() if isinstance(m, nn.Linear)
    )


def module_of(net: nn.Module) -> ModuleType:
    """The file of a network: its rename rules live there."""
    return sys.modules[type(net).__module__]


def published_to_own(module: ModuleType, state: Mapping[str, Any], where: str = "these weights") -> dict[str, Any]:
    """The state under the network's own names."""
    renamed: dict[str, Any] = {}
    for name, new in new_names(module, state).items():
        if new in renamed:
            raise CheckpointError(f"{where}: two tensors are both called '{new}' once renamed")
        renamed[new] = state[name]
    return module.from_published(renamed) if hasattr(module, "from_published") else renamed


def new_names(module: ModuleType, names: Iterable[str]) -> dict[str, str]:
    """Published name -> the network's own, by the rules of its file; tensors that it never uses are left out."""
    rules = [(re.compile(pattern), new) for pattern, new in getattr(module, "PUBLISHED_NAMES", ())]
    unused = [re.compile(pattern) for pattern in getattr(module, "UNUSED_NAMES", ())]
    found = {}
    for name in names:
        if any(p.search(name) for p in unused):
            continue
        new = name
        for pattern, replacement in rules:
            new = pattern.sub(replacement, new)
        found[name] = new
    return found


def fitted(given: dict[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """``given`` without the leading parts that all its names share, where only then they are the network's names."""
    known = set(own)
    candidate = given
    while candidate and not known & candidate.keys():
        heads = {name.partition(".")[0] for name in candidate}
        if len(heads) != 1 or any("." not in name for name in candidate):
            return given
        candidate = {name.partition(".")[2]: value for name, value in candidate.items()}
    return candidate


def is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def mismatch(
    net: nn.Module,
    state: Mapping[str, Any],
    given: Mapping[str, Any],
    extra: Sequence[str],
    missing: Sequence[str],
    wrong: Sequence[str],
    where: str,
) -> CheckpointError:
    """One sentence: what is left over on both sides; the hint names a network that fits better."""
    own = net.state_dict()
    card = getattr(net, "card", None)
    name = described(card.name, card.variant) if card else type(net).__name__
    found = []
    if extra:
        found.append(f"{len(extra)} of its {len(given)} tensors have no place ({abbreviated(extra)})")
    if missing:
        found.append(f"{len(missing)} of the network's {len(own)} are missing ({abbreviated(missing)})")
    if wrong:
        shapes = [f"{n} {list(np.shape(given[n]))} instead of {list(own[n].shape)}" for n in wrong]
        found.append(f"{len(wrong)} differ in shape ({abbreviated(shapes)})")
    better = best_fit(state, above=fit(given, {n: tuple(t.shape) for n, t in own.items()}))
    hint = f"it looks like {described(*better)}" if better and described(*better) != name else None
    return CheckpointError(f"{where}: not weights of {name}: {', '.join(found)}", hint)


def abbreviated(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def described(name: str, variant: str | None) -> str:
    return f"{name}, variant '{variant}'" if variant else name


def fit(given: Mapping[str, Any], own: Mapping[str, tuple[int, ...]]) -> float:
    """Share of equal names and shapes in all names of both sides, counters left out."""
    a = {n: tuple(np.shape(v)) for n, v in given.items() if not is_counter(n)}
    b = {n: s for n, s in own.items() if not is_counter(n)}
    both = sum(a.get(n) == s for n, s in b.items())
    return both / max(1, len(a.keys() | b.keys()))


def best_fit(state: Mapping[str, Any], above: float = 0.0, at_least: float = 0.5) -> tuple[str, str | None] | None:
    """Name and variant of the known network that ``state`` fits best, None if none fits more than ``above``."""
    # Sixty networks take seconds to build: variants are looked at only of the networks whose names are nearest, and
    # networks on timm's backbones (a second to import) come after the others, the detectors last.
    shares: dict[str, float] = {}
    order = {"irstd": 0, "detection": 2}
    for name in sorted(list_models(), key=lambda name: order.get(model_card(name).task, 1)):
        shares[name] = _share(state, name, None, shapes=False)
        if shares[name] == 1:
            break
    names = sorted(shares, key=lambda name: -shares[name])[:CANDIDATES]
    variants = [(name, variant) for name in names for variant in (None, *model_card(name).variants)]
    scores = {which: _share(state, *which) for which in variants}
    best = max(variants, key=lambda which: scores[which])
    return best if scores[best] > max(above, at_least) else None


def _share(state: Mapping[str, Any], name: str, variant: str | None, shapes: bool = True) -> float:
    """How well a state fits a network, -1 where its names cannot be turned into the network's."""
    module, own = skeleton(name, variant)
    try:
        given = fitted(published_to_own(module, state), own)
    except (CheckpointError, KeyError, ValueError, IndexError):
        return -1.0
    if shapes:
        return fit(given, own)
    return len(given.keys() & own.keys()) / max(1, len(given.keys() | own.keys()))


@cache
def skeleton(name: str, variant: str | None) -> tuple[ModuleType, dict[str, tuple[int, ...]]]:
    """A network's file, and the names and shapes of its tensors, without memory for them."""
    import torch
    from torch.overrides import TorchFunctionMode

    from motes.models import create_model

    class WithoutRandomNumbers(TorchFunctionMode):
        """Tensors without memory need none, and torch imports its compiler (seconds) for the first."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__name__", "") in ("normal_", "uniform_"):
                return args[0] if args else kwargs["tensor"]  # torch.nn.init hands its tensor over by name
            return func(*args, **kwargs)

    with torch.device("meta"), WithoutRandomNumbers():
        net = create_model(name, variant)
    return module_of(net), {n: tuple(t.shape) for n, t in net.state_dict().items()}
