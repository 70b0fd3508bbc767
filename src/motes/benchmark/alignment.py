"""Does a network here compute what a reference says: outputs, loss, metrics, gradients, and a few optimiser steps?

The protocol of the Paddle reproductions, with their two holes closed (transposed shapes are compared as if they were
equal, shapes that broadcast pass): the input is stored, both sides have the same weights, and the network stays in eval
mode throughout, the backward step included, so that no batch statistics and no dropout differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from motes.benchmark.alignment_targets import METRICS, as_target, filled_target, fits, metrics_of, tensor_of
from motes.benchmark.differences import Limits, Row, compare
from motes.cards import Card, model_card
from motes.checkpoints import load_network, load_published, write_safetensors
from motes.checkpoints.filled import fill_input, fill_state
from motes.checkpoints.references import EMBEDDED, Reference, read_reference, write_reference
from motes.errors import CheckpointError, MotesError
from motes.export.parity import fitting
from motes.losses import Sum, create_loss
from motes.models import any_size, create_model
from motes.naming import look_up
from motes.training.optimizers import create_optimizer
from motes.training.recipe import Recipe, load_recipe, parse_recipe
from motes.training.schedule import learning_rate

SETTINGS = {"model", "losses", "optimizer", "schedule", "loop", "validation"}
"""The parts of a recipe that decide what is computed."""

LOSSES = {"aerial": ("cross_entropy",)}
"""Losses of a task where neither the reference nor the command line says them."""

STORED = " from stored logits"
"""Ending of rows that leave our network out: the reference's own logits through our loss and metrics."""


@dataclass
class Alignment:
    """All tensors of one reference."""

    what: str
    reference: str
    rows: list[Row] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.rows) and not any(r.problem for r in self.rows)

    def to_dict(self) -> dict[str, Any]:
        rows = [{**asdict(r), "shape": list(r.shape), "passed": not r.problem} for r in self.rows]
        return {"passed": self.passed, "model": self.what, "reference": self.reference, "rows": rows}


@dataclass(frozen=True)
class Given:
    """What the command line adds to a reference, or says instead of it; None: as the reference says."""

    variant: str | None = None
    weights: Path | None = None
    keys: Path | None = None
    input: Path | None = None
    target: Path | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    loss: str | None = None
    recipe: str | None = None
    lr: float | None = None


def align(model: str, path: Path, given: Given | None = None, limits: Limits | None = None) -> Alignment:
    """Compares a network with a reference file.

    Args:
        model: a name of ``motes models``.
        path: ``.npz`` or ``.npy``, see ``docs/smoke-and-align.md``.
        given: what the file does not say.
        limits: how much may differ.

    Raises:
        MotesError: a file or name that is not there, weights that do not fit, nothing to compare.
    """
    given = given or Given()
    reference = completed(read_reference(path), given, model_card(model).task)
    if not reference.values:
        raise MotesError(
            f"{path}: holds nothing to compare with", "expected arrays such as out0, logits, loss or loss_0"
        )
    made_from = reference.settings.get("model", model)
    if made_from != model:
        raise MotesError(f"{path}: is a reference of {made_from}, not of {model}")
    settings = settings_of(model, given, reference)
    ours = from_stored_logits(reference, settings)
    theirs = dict(reference.values)
    theirs.update({name: theirs[name.removesuffix(STORED)] for name in ours})
    if reference.input is not None:
        net = network_of(model, reference, given)
        check_channels(net, reference)
        ours.update(measured(net, reference.input, reference.target, settings, wanted(reference)))
    elif not ours:
        raise MotesError(
            f"{path}: holds no input, and no logits with a target", "give --input FILE.npy and --weights FILE"
        )
    else:
        theirs = {name: theirs[name] for name in ours}
    return Alignment(model, path.name, compare(ours, theirs, limits or Limits()))


def compare_files(first: Path, second: Path, limits: Limits | None = None) -> Alignment:
    """Compares two reference files, every name of both."""
    ours, theirs = read_reference(first).values, read_reference(second).values
    rows = compare(ours, theirs, limits or Limits())
    rows += [Row(n, ours[n].shape, problem=f"{second.name} has no such tensor") for n in ours if n not in theirs]
    return Alignment(first.name, second.name, rows)


def save(
    model: str, path: Path, given: Given, steps: int, size: tuple[int, int], batch: int, carry_weights: bool = False
) -> dict[str, np.ndarray]:
    """Writes a reference from one of our networks and returns its values.

    Args:
        model: a name of ``motes models``.
        path: ``.npz``, or ``.npy`` for a dictionary as reprod_log writes it; input, target and (where they are not
            yet in a file) weights go beside it then.
        given: variant, weights (None: filled by name), loss and so on.
        steps: optimiser steps.
        size: height and width in px; enlarged to what the network takes.
        batch: images.
        carry_weights: store the weights in the file.

    Raises:
        MotesError: a name that is not there, or a loss that does not stay finite.
    """
    net, keys, kept = network_to_save(model, given)
    card: Card = net.card
    sides = [fitting(n, card.input) for n in size]
    images = read_plain(given.input) if given.input else fill_input((batch, card.input.channels, *sides))
    check_channels(net, Reference(path, {}, images))
    if given.target:
        target = as_target(card.task, read_plain(given.target), given.target)
    else:
        target = filled_target(card.task, len(images), len(card.classes), *images.shape[2:])
    settings = settings_of(model, given, None, steps)
    weights = {n: v.numpy().copy() for n, v in net.state_dict().items()}
    values = measured(net, images, target, settings, None)
    broken = next((n for n, v in values.items() if not np.isfinite(v).all()), None)
    if broken:
        raise MotesError(f"{path}: not written, {broken} is not finite", "a smaller --lr may help")
    facts = {
        "model": card.name,
        "variant": card.variant,
        "steps": steps,
        "parameters": [n for n, p in net.named_parameters() if p.requires_grad],
        "weights_sha256": card.source_sha256,
        "recipe": settings.model_dump(mode="json", include=SETTINGS),
    }
    entries = {"input": images, "target": target, "settings": np.array(json.dumps(facts))}
    if carry_weights:
        entries |= {f"{EMBEDDED}{n}": v for n, v in weights.items()}
    elif not given.weights:
        entries |= {"keys": np.array(json.dumps(keys)), "kept": np.array(kept)}
    write_reference(path, entries, values)
    if path.suffix.lower() == ".npy" and not given.weights:
        write_safetensors(path.with_suffix(".safetensors"), weights, card)
    return values


def measured(
    net: nn.Module, images: np.ndarray, target: np.ndarray | None, settings: Recipe, names: set[str] | None
) -> dict[str, np.ndarray]:
    """What a network computes; the optimiser steps change it.

    Args:
        net: the network.
        images: [B, C, H, W] float32.
        target: a mask [B, K, H, W] or class ids [B, H, W]; None: outputs only.
        settings: loss, optimiser, schedule (an epoch is a step), ``loop.epochs`` steps, protocol.
        names: what is asked for; None: everything.

    Returns:
        ``out0`` ... (as the authors' code returns them), ``logits`` [B, K, H, W]; with a target ``loss``, ``iou`` ...;
        ``grad_norms`` [P] (L2 norm of the loss's gradient per parameter), ``grad_norm``, and ``loss_k``, ``lr_k``.
    """
    net.eval()
    x = torch.from_numpy(images)
    with torch.inference_mode():
        values = {k: v.numpy() for k, v in net.published_outputs(x).items()}
        if target is not None or names is None or "logits" in names:
            values["logits"] = any_size(net)(x).numpy()
    if target is None:
        return values
    values |= scored(values["logits"], target, settings)
    if names is None or any(re.fullmatch(r"grad_norms?|(loss|lr)_\d+", n) for n in names):
        values |= stepped(net, x, tensor_of(target), settings)
    return values


def scored(logits: np.ndarray, target: np.ndarray, settings: Recipe) -> dict[str, np.ndarray]:
    """``loss`` and the metrics of logits [B, K, H, W] against a mask of the same shape, or class ids [B, H, W]."""
    if not fits(logits, target):
        raise MotesError(f"logits of shape {list(logits.shape)} against a target of {list(target.shape)}")
    loss = loss_of(settings)(torch.from_numpy(logits), tensor_of(target))
    return {"loss": np.asarray(loss.item()), **metrics_of(logits, target, settings.validation.protocol)}


def stepped(net: nn.Module, images: Tensor, target: Tensor, settings: Recipe) -> dict[str, np.ndarray]:
    """Optimiser steps on one batch, in eval mode."""
    values: dict[str, np.ndarray] = {}
    loss_function, run = loss_of(settings), any_size(net)
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = create_optimizer(settings.optimizer, parameters)
    steps = settings.loop.epochs
    for k in range(steps):
        rate = learning_rate(settings.schedule, settings.optimizer.lr, k, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(run(images), target)
        loss.backward()
        if k == 0:
            norms = [p.grad.norm().item() if p.grad is not None else 0.0 for p in parameters]
            values["grad_norms"], values["grad_norm"] = np.array(norms), np.asarray(np.linalg.norm(norms))
        if settings.loop.clip_norm:
            nn.utils.clip_grad_norm_(parameters, settings.loop.clip_norm)
        optimizer.step()
        values |= {f"loss_{k}": np.asarray(loss.item()), f"lr_{k}": np.asarray(rate)}
    return values


def completed(reference: Reference, given: Given, task: str) -> Reference:
    """The reference with what the command line adds."""
    if given.input is not None:
        reference.input = np.ascontiguousarray(read_plain(given.input), np.float32)
        if reference.input.ndim != 4:
            raise CheckpointError(f"{given.input}: has shape {list(reference.input.shape)}, expected [B, C, H, W]")
    if given.target is not None:
        reference.target = read_plain(given.target)
    if reference.target is not None:
        reference.target = as_target(task, reference.target, given.target or reference.path)
    for theirs, ours in given.rename.items():
        look_up(f"tensor in {reference.path}", theirs, reference.values, CheckpointError)
        reference.values[ours] = reference.values.pop(theirs)
    return reference


def read_plain(path: Path) -> np.ndarray:
    """The only array of an ``.npy`` file."""
    arrays = list(read_reference(path).values.values())
    if path.suffix.lower() != ".npy" or len(arrays) != 1:
        raise CheckpointError(f"{path}: expected one array in an .npy file")
    return arrays[0]


def wanted(reference: Reference) -> set[str]:
    """The names that are compared; MotesError if they need a target that is not there."""
    names = set(reference.values)
    needing = sorted(n for n in names if re.fullmatch(rf"loss|{'|'.join(METRICS)}|grad_norms?|(loss|lr)_\d+", n))
    if needing and reference.target is None:
        raise MotesError(f"{reference.path}: holds '{needing[0]}' but no target", "give --target FILE.npy")
    return names


def from_stored_logits(reference: Reference, settings: Recipe) -> dict[str, np.ndarray]:
    """Our loss and metrics of the reference's own logits, where it has them: these two apart from the network."""
    logits, target = reference.values.get("logits"), reference.target
    if logits is None or target is None or not fits(logits, target):
        return {}
    found = scored(np.ascontiguousarray(logits, np.float32), target, settings)
    return {f"{name}{STORED}": value for name, value in found.items() if name in reference.values}


def loss_of(settings: Recipe) -> Sum:
    parts = settings.losses
    return Sum([create_loss(p.name, **p.options) for p in parts], [p.weight for p in parts])


def settings_of(model: str, given: Given, reference: Reference | None, steps: int | None = None) -> Recipe:
    """Loss, optimiser, schedule and number of steps: of the command line, else the reference, else the protocol's.

    The protocol's: SGD with momentum 0.9 and weight decay 1e-4, its rate falling by the poly rule, from 0.001 instead
    of 0.007: weights filled by name diverge with that, and rounding with them.
    """
    stored = reference.settings.get("recipe") if reference else None
    if given.recipe:
        recipe = load_recipe(given.recipe)
    elif stored:
        recipe = parse_recipe(stored, f"{reference.path}: settings" if reference else "settings")
    else:
        values = {
            "model": {"name": model},
            "losses": [{"name": n} for n in LOSSES.get(model_card(model).task, ("bce", "soft_iou"))],
            "optimizer": {"name": "SGD", "lr": 0.001, "options": {"momentum": 0.9, "weight_decay": 1e-4}},
            "schedule": {"name": "poly"},
            "loop": {"epochs": 1},
        }
        recipe = parse_recipe(values, "motes align")
    if steps is None:
        taken = [int(n[5:]) for n in reference.values if re.fullmatch(r"loss_\d+", n)] if reference else []
        steps = int(reference.settings.get("steps", 0)) if reference else 0
        steps = max([steps, *(k + 1 for k in taken)])
    changes: dict[str, Any] = {"loop": recipe.loop.model_copy(update={"epochs": max(steps, 1)})}
    if given.loss:
        create_loss(given.loss)
        changes["losses"] = (recipe.losses[0].model_copy(update={"name": given.loss, "weight": 1.0, "options": {}}),)
    if given.lr is not None:
        changes["optimizer"] = recipe.optimizer.model_copy(update={"lr": given.lr})
    return recipe.model_copy(update=changes)


def network_of(model: str, reference: Reference, given: Given) -> nn.Module:
    """Our network with the reference's weights."""
    variant = given.variant or variant_of(model, reference)
    if given.weights:
        return load_network(given.weights, model, variant)[0]
    net = create_model(model, variant)
    folder = reference.path.parent
    names = (reference.keys_name, f"keys-{variant}.json", "keys.json")
    keys = given.keys or next((folder / n for n in names if n and (folder / n).is_file()), None)
    state = reference.state(keys)
    if state is None:
        raise MotesError(
            f"{reference.path}: says nothing about the weights", "give --weights FILE, or --keys keys.json"
        )
    own = net.state_dict()
    state |= {name: own[name].numpy() for name in reference.kept if name in own}
    return load_published(net, state, str(reference.path))


def variant_of(model: str, reference: Reference) -> str | None:
    """What the settings say, else the file of names it goes with, else its own name, ``case-<variant>-...``."""
    if "variant" in reference.settings:
        stored: str | None = reference.settings["variant"]
        return stored
    known = model_card(model).variants
    by_keys = (reference.keys_name or "").removeprefix("keys-").removesuffix(".json")
    if by_keys in known:
        return by_keys
    found = [v for v in known if reference.path.name.startswith(f"case-{v}-")]
    return max(found, key=len, default=None)


def network_to_save(model: str, given: Given) -> tuple[nn.Module, dict[str, Any], list[str]]:
    """A network with the weights of a file, or filled by name; then also the names and shapes, and what was kept."""
    if given.weights:
        return load_network(given.weights, model, given.variant)[0], {}, []
    net = create_model(model, given.variant)
    own = net.state_dict()
    trained = {n for n, _ in net.named_parameters()}
    filled = [n for n in own if n in trained or n.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    keys = {n: (list(own[n].shape), str(own[n].dtype).removeprefix("torch.")) for n in filled}
    net.load_state_dict({n: torch.from_numpy(np.asarray(v)) for n, v in fill_state(keys).items()}, strict=False)
    return net, keys, [n for n in own if n not in keys]


def check_channels(net: nn.Module, reference: Reference) -> None:
    channels = net.card.input.channels
    if reference.input is not None and reference.input.shape[1] != channels:
        raise MotesError(
            f"{reference.path}: its input has {reference.input.shape[1]} channels, {net.card.name} takes {channels}",
            "--variant names another form of the network",
        )
