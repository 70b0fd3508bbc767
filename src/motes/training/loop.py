"""The training loop: one readable place, on Lightning Fabric for precision, devices and several processes.

What a step trains on is a function of (seed, step): the order of the frames, their augmentation and dropout are all
drawn from generators seeded with it. So a checkpoint needs no generator state, and a resumed training ends bit-equal to
an uninterrupted one (same machine, same number of threads).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from motes.cards import Card
from motes.checkpoints import write_safetensors
from motes.errors import MotesError
from motes.losses import Sum, create_loss
from motes.metrics import Value
from motes.models.allocator import keep_freed_memory
from motes.naming import look_up
from motes.training.boxes import BoxSet, LossSum, check_losses
from motes.training.labelled import LabelledSet
from motes.training.network import learned_before, load_start, make_network
from motes.training.optimizers import create_optimizer, set_rate
from motes.training.recipe import Recipe
from motes.training.run import SHOWN, Run
from motes.training.samples import Batch, Order, TrainingSet, loader, start
from motes.training.schedule import MovingAverage, clip_each, learning_rate, progress, warmup
from motes.training.selection import Frames, fingerprints
from motes.training.validation import known_metrics, validate

MOST_LEFT_OUT = 5
"""Steps in a row whose gradient is not finite: one is an accident of half precision, these are a divergence."""


def train(recipe: Recipe, frames: Frames, run: Run, fabric: Fabric | None = None) -> Path:
    """Trains until the recipe's end and returns the run's ``best.safetensors``.

    Goes on from ``run``'s last checkpoint if there is one. Ctrl-C (and SIGTERM) finish the step, save and raise
    KeyboardInterrupt.
    """
    keep_freed_memory()
    trainer = Trainer(fabric or make_fabric(recipe), recipe, frames, run)
    trainer.restore()
    with Interruption() as interruption:
        trainer.fit(interruption)
    return run.folder / "best.safetensors"


def make_fabric(recipe: Recipe) -> Fabric:
    """Fabric as the recipe says; under torchrun or SLURM the number of processes comes from there."""
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", recipe.loop.devices))
    nodes = int(os.environ.get("WORLD_SIZE", devices)) // devices
    many = devices * nodes > 1
    fabric = Fabric(
        accelerator=recipe.loop.accelerator,
        devices=devices,
        num_nodes=nodes,
        # What only a sky map or a positive box trains gets no gradient in some batches.
        strategy=("ddp_find_unused_parameters_true" if recipe.task == "detection" else "ddp") if many else "auto",
        precision=recipe.loop.precision,
    )
    fabric.launch()
    return fabric


class Trainer:
    """The state of one training and the steps that change it."""

    def __init__(self, fabric: Fabric, recipe: Recipe, frames: Frames, run: Run) -> None:
        self.fabric, self.recipe, self.frames, self.run = fabric, recipe, frames, run
        loop = recipe.loop
        torch.manual_seed(loop.seed)
        net = make_network(recipe)
        self.before: dict[str, Any] = {}
        if not run.begun:
            run.note("starts from", load_start(net, recipe), aloud=recipe.task != "irstd")
            self.before = learned_before(recipe)
        self.card: Card = net.card
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        if loop.channels_last:
            net = net.to(memory_format=torch.channels_last)
        self.average = MovingAverage(net, loop.ema) if loop.ema else None
        optimizer = create_optimizer(recipe.optimizer, net)
        self.net, self.optimizer = fabric.setup(net, optimizer)
        if self.average:
            self.average.state = {k: v.to(fabric.device) for k, v in self.average.state.items()}
        self.loss = make_loss(recipe).to(fabric.device)
        self.data = training_set(frames, self.card, recipe)
        frames_per_epoch = sum(frames.repeats)
        self.fingerprints = fingerprints(frames.train) if fabric.global_rank == 0 else []
        self.steps_per_epoch = max(int(frames_per_epoch // (loop.batch_size * fabric.world_size * loop.accumulate)), 1)
        planned = loop.steps or (loop.epochs or 1) * self.steps_per_epoch
        self.epochs = loop.epochs or planned / self.steps_per_epoch
        self.steps = min(planned, loop.max_steps or 10**12)
        self.step = 0
        self.left_out = 0
        self.best: float | None = None
        self.best_step = 0

    def fit(self, interruption: Interruption) -> None:
        loop = self.recipe.loop
        order = Order(
            self.frames.repeats, loop.batch_size, self.steps_per_epoch * loop.accumulate, loop.seed,
            self.fabric.global_rank, self.fabric.world_size, start=self.step * loop.accumulate,
        )  # fmt: skip
        batches = start(loader(self.data, order, loop.workers))
        with self.run.progress(self.steps, self.step) as show:
            while self.step < self.steps and not self.out_of_patience():
                started = time.perf_counter()
                value, rate = self.optimizer_step([next(batches) for _ in range(loop.accumulate)])
                self.step += 1
                epoch = self.step / self.steps_per_epoch
                row = {"step": self.step, "epoch": round(epoch, 4), "lr": rate, "loss": value}
                row |= {f"loss/{k}": v for k, v in getattr(self.loss, "parts", {}).items()}
                row["seconds"] = round(time.perf_counter() - started, 3)
                at_end = self.step == self.steps
                self.end_step(row, at_end)
                show(row)
                self.run.log(row)
                stop = interruption.requested
                if stop or at_end or self.step % loop.checkpoint_every == 0 or self.step % self.steps_per_epoch == 0:
                    self.save()
                if stop:
                    raise KeyboardInterrupt

    def optimizer_step(self, batches: Sequence[Batch]) -> tuple[float, float]:
        """One update of the weights; returns the loss and the learning rate."""
        recipe, fabric = self.recipe, self.fabric
        # Dropout is drawn from here; any two steps and processes differ.
        torch.manual_seed((recipe.loop.seed * 1_000_003 + self.step) * 4096 + fabric.global_rank)
        at = progress(recipe.schedule, self.step, self.steps_per_epoch)
        rate = learning_rate(recipe.schedule, recipe.optimizer.lr, at, self.epochs)
        rate *= warmup(recipe.schedule, self.step)
        set_rate(self.optimizer, rate)
        self.net.train()
        if hasattr(self.net.module, "progress"):  # a network whose losses change with the epoch
            self.net.module.progress(self.step // self.steps_per_epoch)
        total = 0.0
        for k, batch in enumerate(batches):
            images, truth = (fabric.to_device(t) for t in (batch.images, batch.truth))
            if recipe.loop.channels_last:
                images = images.to(memory_format=torch.channels_last)
            self.loss.train(k == 0)  # a loss that anneals counts optimiser steps
            with fabric.no_backward_sync(self.net, enabled=k < len(batches) - 1):
                outputs = self.net(images, truth) if recipe.task == "detection" else self.net(images)
                loss = self.loss(outputs, truth) / len(batches)
                value = float(loss.detach())
                if value != value or value in (float("inf"), float("-inf")):
                    shown = ", ".join(batch.names[:8]) + (" ..." if len(batch.names) > 8 else "")
                    epoch = self.step // self.steps_per_epoch
                    raise MotesError(
                        f"the loss became {value} at step {self.step} (epoch {epoch}) on the batch {shown}",
                        "lower optimizer.lr, set loop.clip_norm, or look at these frames",
                    )
                fabric.backward(loss)
            total += value
        if self.clip():
            self.optimizer.step()
            self.left_out = 0
        else:
            self.leave_out()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.net.module)
        return total, rate

    def clip(self) -> bool:
        """Clips the gradient as the recipe says; False where its norm is no number."""
        loop, fabric = self.recipe.loop, self.fabric
        if not loop.clip_norm:
            return True
        if loop.clip_per == "tensor":
            fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
            clip_each(self.net.parameters(), loop.clip_norm)
            return True
        norm = fabric.clip_gradients(self.net, self.optimizer, max_norm=loop.clip_norm, error_if_nonfinite=False)
        # With fp16 the scaler itself skips such a step, and scales less from then on.
        return loop.precision == "16-mixed" or norm is None or bool(torch.isfinite(norm))

    def leave_out(self) -> None:
        """Goes on after a gradient that is not finite; MotesError where that happens again and again."""
        self.left_out += 1
        if self.left_out == MOST_LEFT_OUT:
            raise MotesError(
                f"the gradient was not finite in {MOST_LEFT_OUT} steps in a row, the last of them step {self.step}",
                "lower optimizer.lr or try loop.precision=32-true; --resume goes on from the last checkpoint",
            )
        self.run.note(f"step {self.step}", "left out, its gradient was not finite", aloud=True)

    def end_step(self, row: dict[str, Any], at_end: bool) -> None:
        """Validation, best weights, kept weights, where they are due."""
        validation, loop = self.recipe.validation, self.recipe.loop
        if self.frames.val and (at_end or self.due(validation.every, validation.every_steps)):
            shown = {*SHOWN[self.recipe.task], validation.metric}
            values = {k: v.value for k, v in self.validate().items() if k in shown}
            row |= {f"val_{k}": v for k, v in values.items()}
            value = values.get(validation.metric)
            if value is not None and (self.best is None or value > self.best):
                self.best, self.best_step = value, self.step
                self.write("best.safetensors", values)
            elif at_end and self.best is None:  # without a target there is nothing to select by
                self.write("best.safetensors", values)
        elif not self.frames.val and at_end:
            self.write("best.safetensors", {})
        keeps = loop.keep_every or loop.keep_every_steps
        if keeps and (at_end or self.due(loop.keep_every, loop.keep_every_steps)):
            self.write(f"step-{self.step:07d}.safetensors", {})

    def due(self, epochs: int | None, steps: int | None) -> bool:
        """Whether this step ends a stretch of so many steps or, where none are given, epochs."""
        if steps:
            return self.step % steps == 0
        return bool(epochs) and self.step % (epochs * self.steps_per_epoch) == 0

    def validate(self) -> dict[str, Value]:
        """The metrics of the weights that would be shipped (the average, if one is kept) over all processes."""
        net = self.net.module
        own = {k: v.clone() for k, v in net.state_dict().items()}
        if self.average:
            net.load_state_dict(self.average.state)
        if self.fabric.world_size > 1:
            # Each process has its own batch statistics (and average of them); the ones scored are those that are saved.
            net.load_state_dict(self.fabric.broadcast(net.state_dict()))
        try:
            return validate(net.eval(), self.frames, self.card, self.recipe, self.fabric)
        finally:
            net.load_state_dict(own)

    def out_of_patience(self) -> bool:
        part = self.recipe.validation
        if part.patience is None:
            return False
        if part.every_steps:
            return self.step - self.best_step >= part.patience * part.every_steps
        return self.step // self.steps_per_epoch - self.epoch(self.best_step) >= part.patience * part.every

    def epoch(self, step: int) -> int:
        return round(step / self.steps_per_epoch)

    def write(self, name: str, values: dict[str, Any]) -> None:
        if self.fabric.global_rank:
            return
        state = self.average.state if self.average else self.net.module.state_dict()
        training = {
            "data": self.frames.name,
            "split": self.recipe.data.train or "all",
            "recipe": self.recipe.name,
            "seed": self.recipe.loop.seed,
            "epochs": self.epoch(self.step),
            "epochs_before": self.before.get("epochs_before"),
            "step": self.step,
            "validation": {k: v for k, v in values.items() if v is not None},
            "frames": sorted({*self.fingerprints, *self.before.get("frames", ())}),
        }
        if self.frames.boxes is not None:
            training |= {"reader": self.frames.boxes.reader, "resize": self.recipe.transform.resize}
        training = {k: v for k, v in training.items() if v is not None}
        card = self.card.replace(training=training, published=())
        write_safetensors(self.run.folder / name, {k: v.cpu().numpy() for k, v in state.items()}, card)

    def save(self) -> None:
        if self.fabric.global_rank == 0:
            self.run.save_checkpoint(
                {
                    "step": self.step,
                    "best": self.best,
                    "best_step": self.best_step,
                    "net": self.net.module.state_dict(),
                    "optimizer": self.optimizer.optimizer.state_dict(),
                    "average": self.average.state_dict() if self.average else None,
                    "loss": self.loss.state_dict(),
                    "precision": self.fabric.strategy.precision.state_dict(),
                    "before": self.before,
                }
            )
        self.fabric.barrier()

    def restore(self) -> None:
        saved = self.run.load_checkpoint(self.fabric.device)
        if saved is None:
            self.run.forget_after(0)
            return
        self.net.module.load_state_dict(saved["net"])
        self.optimizer.optimizer.load_state_dict(saved["optimizer"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.loss.load_state_dict(saved.get("loss", {}), strict="loss" in saved)
        self.before = saved.get("before", {})
        if saved.get("precision"):  # the loss scale of fp16
            self.fabric.strategy.precision.load_state_dict(saved["precision"])
        self.step, self.best = saved["step"], saved["best"]
        self.best_step = saved.get("best_step", saved.get("best_epoch", 0) * self.steps_per_epoch)
        self.run.forget_after(self.step)


class Interruption:
    """Turns the first Ctrl-C or SIGTERM into a request to stop after the step; the second one stops at once."""

    requested = False

    def __enter__(self) -> Interruption:
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def make_loss(recipe: Recipe) -> nn.Module:
    """The recipe's losses as one; detectors bring their own, the recipe may weigh them."""
    if recipe.task == "detection":
        return LossSum({p.name: p.weight for p in recipe.losses})
    return Sum([create_loss(p.name, **p.options) for p in recipe.losses], [p.weight for p in recipe.losses])


def training_set(frames: Frames, card: Card, recipe: Recipe) -> TrainingSet | LabelledSet | BoxSet:
    """The augmented training frames, or windows of them."""
    seed = recipe.loop.seed
    if frames.boxes is not None:
        return BoxSet(frames.train, frames.boxes, card.input, recipe.transform, seed)
    if frames.classes is None:
        return TrainingSet(frames.train, card.input, recipe.transform, seed)
    return LabelledSet(frames.windows or frames.train, frames.classes, card.input, recipe.transform, seed)


def check(recipe: Recipe, begun: bool = False) -> None:
    """Builds what the recipe names and drops it again: a typo is found before anything is written or trained.

    ``begun``: there is a checkpoint, so the weights that the training started from need not be there any more.
    """
    net = make_network(recipe)
    if not begun:
        load_start(net, recipe)
    look_up("validation metric", recipe.validation.metric, known_metrics(recipe, net.card))
    if recipe.task == "detection" and recipe.losses:
        check_losses(net, recipe)
    else:
        make_loss(recipe)
    create_optimizer(recipe.optimizer, net)
