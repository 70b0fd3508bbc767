"""An official checkpoint under its authors' protocols and under ours, beside what was published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from motes.benchmark.standing import published
from motes.cards import model_card
from motes.checkpoints import load_network
from motes.data import Sample
from motes.evaluation import score_samples
from motes.metrics import PROTOCOLS, Protocol, protocol
from motes.models.backend import TorchBackend

KEYS = ("iou", "niou", "pd", "fa")


def reproduction_rules(model: str, data: str) -> list[Protocol]:
    """The protocols of what is published of the network on this data set (on any, if nothing is), then ``native``."""
    rows: Sequence[Mapping[str, Any]] = published(model, data) or model_card(model).published
    names = [str(row.get("protocol")) for row in rows if row.get("protocol") in PROTOCOLS]
    return [protocol(n) for n in dict.fromkeys([*names, "native"])]


def reproduction(
    model: str,
    variant: str | None,
    weights: Path,
    samples: Sequence[Sample],
    data: str,
    split: str | None,
    rules: Sequence[Protocol],
    advance: Callable[[], object] | None = None,
) -> list[dict[str, Any]]:
    """One row for each protocol and key: ``{protocol, metric, published: [{value, source, split}], measured,
    numerator, denominator}``.

    Raises:
        MotesError: unreadable file, or weights of another network.
    """
    net, card = load_network(weights, model, variant)
    backend = TorchBackend(net, card)
    rows = []
    for rule in rules:
        score = score_samples(backend, samples, rule, lambda _: advance() if advance else None)
        metrics = score.compute(intervals=False)
        claims = [r for r in published(model, data) if r.get("protocol") == rule.name]
        for key in KEYS:
            values = [
                {"value": r[key], "source": r.get("source"), "split": r.get("split")}
                for r in claims
                if r.get(key) is not None and r.get("variant") in (None, card.variant)
            ]
            rows.append(
                {
                    "protocol": rule.name,
                    "metric": key,
                    "measured": metrics[key].value,
                    "numerator": metrics[key].numerator,
                    "denominator": metrics[key].denominator,
                    "published": values,
                }
            )
    return rows
