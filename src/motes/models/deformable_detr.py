"""Deformable DETR: attention samples a few points of several levels, so that fine levels cost little.

Zhu, Su, Lu, Li, Wang, Dai, "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021. As
mmdetection runs it, names included.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES, create_box_backbone
from motes.layers.box_towers import prior_bias
from motes.layers.channel_mapper import ChannelMapper
from motes.layers.deformable_attention import DeformableAttention, Sizes, cell_centres
from motes.layers.query_transformer import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    inverse_sigmoid,
    map_positions,
)
from motes.models.query_detector import QueryDetector, start_boxes

CHANNELS, HIDDEN, GROUPS = 256, 1024, 32


class DeformableDETR(QueryDetector):
    """300 queries with a reference point each that sample four levels; K classes by sigmoid.

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a feature backbone of timm's.
        finest: level of the finest map; level n has stride 2^n, and all up to 5 are used.
        extra: further levels behind the last.
        queries: most objects in a frame.
        encoder_layers, decoder_layers: depth; all decoder layers are supervised.
        points: samples that a head takes of a level.
        dropout: in attention and feed-forward parts.
        refine: every decoder layer predicts with weights of its own and refines the box of the one before (section 4.2
            of the paper); published without: one predictor, boxes relative to the first reference point.
        start_size: side of the boxes at first, as a fraction of the frame.
        norm: "frozen", "fixed" or "train", of the backbone, see :mod:`motes.layers.box_backbone`.
        frozen_stages: of the backbone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        finest: int = 3,
        extra: int = 1,
        queries: int = 300,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        points: int = 4,
        dropout: float = 0.1,
        refine: bool = False,
        start_size: float = 0.12,
        norm: str = "frozen",
        frozen_stages: int = 1,
    ) -> None:
        super().__init__()
        self.queries, self.refine = queries, refine
        self.backbone = create_box_backbone(
            backbone, levels=tuple(range(finest, 6)), norm=norm, frozen_stages=frozen_stages, in_channels=in_channels
        )
        self.neck = ChannelMapper(self.backbone.channels, CHANNELS, extra, GROUPS)
        levels = len(self.backbone.channels) + extra
        self.level_embed = nn.Parameter(torch.empty(levels, CHANNELS))
        self.encoder = LevelEncoder(encoder_layers, levels, points, dropout)
        self.decoder = PointDecoder(decoder_layers, levels, points, dropout)
        self.query_embedding = nn.Embedding(queries, 2 * CHANNELS)
        self.reference_points_fc = nn.Linear(CHANNELS, 2)
        self.bbox_head = LayerHeads(num_classes, decoder_layers, shared=not refine, start_size=start_size)
        nn.init.normal_(self.level_embed)
        nn.init.xavier_uniform_(self.reference_points_fc.weight)
        nn.init.zeros_(self.reference_points_fc.bias)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [L, B, Q, K] and boxes [L, B, Q, 4] (cx, cy, w, h) as fractions of the frame, of every layer."""
        maps = self.neck(self.backbone(images))
        sizes = [m.shape[-2:] for m in maps]
        places = [map_positions(m, CHANNELS, offset=-0.5) + e for m, e in zip(maps, self.level_embed, strict=True)]
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        memory = self.encoder(tokens, torch.cat(places, 1), cell_centres(maps), sizes)
        queries, x = self.query_embedding.weight.repeat(images.shape[0], 1, 1).chunk(2, -1)
        points = self.reference_points_fc(queries).sigmoid()
        refine = self.bbox_head.reg_branches if self.refine else None
        found, references = self.decoder(x, queries, memory, points, sizes, refine)
        return self.bbox_head(found, references)


class LevelEncoder(nn.Module):
    """Every cell of every level samples around its own centre on all levels."""

    def __init__(self, layers: int, levels: int, points: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(
                DeformableAttention(CHANNELS, levels=levels, points=points, dropout=dropout),
                start_linear(FeedForward(CHANNELS, HIDDEN, dropout)),
                CHANNELS,
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor, places: Tensor, centres: Tensor, sizes: Sizes) -> Tensor:
        for layer in self.layers:
            x = layer(x, reference=centres, sizes=sizes, positions=places)
        return x


class PointDecoder(nn.Module):
    """Attention among the queries, and samples of the levels around their reference points or boxes."""

    def __init__(self, layers: int, levels: int, points: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(
                Attention(CHANNELS, dropout=dropout),
                DeformableAttention(CHANNELS, levels=levels, points=points, dropout=dropout),
                start_linear(FeedForward(CHANNELS, HIDDEN, dropout)),
                CHANNELS,
            )
            for _ in range(layers)
        )

    def forward(
        self,
        x: Tensor,
        queries: Tensor,
        memory: Tensor,
        reference: Tensor,
        sizes: Sizes,
        refine: Sequence[nn.Module] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Contents and places of the queries [B, Q, C] -> what each layer found [L, B, Q, C], and where it looked from.

        ``reference``: (x, y) [B, Q, 2] in 0..1; with ``refine`` it becomes the box of the layer before, detached.
        """
        found, references = [], []
        for i, layer in enumerate(self.layers):
            references.append(reference)
            across = {"memory": memory, "positions": queries, "reference": reference, "sizes": sizes}
            x = layer(x, {"positions": queries}, across)
            if refine is not None:
                reference = moved(refine[i](x), reference).detach()
            found.append(x)
        return torch.stack(found), references


class LayerHeads(nn.Module):
    """Class and box of every decoder layer.

    Published weights name a predictor for each layer; without refinement all are one and the same, which is what the
    lists hold then, so that the last in a file is in force for all.
    """

    def __init__(self, classes: int, layers: int, shared: bool, start_size: float) -> None:
        super().__init__()
        cls = nn.Linear(CHANNELS, classes)
        nn.init.constant_(cls.bias, prior_bias())
        reg = nn.Sequential(
            nn.Linear(CHANNELS, CHANNELS), nn.ReLU(), nn.Linear(CHANNELS, CHANNELS), nn.ReLU(), nn.Linear(CHANNELS, 4)
        )
        start_boxes(reg[-1], start_size)
        self.cls_branches = nn.ModuleList(cls if shared else copy.deepcopy(cls) for _ in range(layers))
        self.reg_branches = nn.ModuleList(reg if shared else copy.deepcopy(reg) for _ in range(layers))
        for branch in [] if shared else self.reg_branches[1:]:
            nn.init.zeros_(branch[-1].bias)  # refines what has its size already

    def forward(self, found: Tensor, references: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """[L, B, Q, C] -> logits [L, B, Q, K] and boxes [L, B, Q, 4] as fractions."""
        logits = [cls(x) for cls, x in zip(self.cls_branches, found, strict=True)]
        boxes = [moved(reg(x), r) for reg, x, r in zip(self.reg_branches, found, references, strict=True)]
        return torch.stack(logits), torch.stack(boxes)


def moved(delta: Tensor, reference: Tensor) -> Tensor:
    """Box [..., 4] in 0..1 of what is predicted and a reference, point or box, all before the sigmoid."""
    start = inverse_sigmoid(reference)
    if reference.shape[-1] == 4:
        return (delta + start).sigmoid()
    return torch.cat((delta[..., :2] + start, delta[..., 2:]), -1).sigmoid()


def start_linear(part: FeedForward) -> FeedForward:
    for p in part.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    return part


PUBLISHED_NAMES = [*BACKBONE_NAMES]

VARIANTS: dict[str, dict[str, Any]] = {
    "small": {
        "finest": 2,
        "extra": 0,
        "queries": 100,
        "encoder_layers": 3,
        "dropout": 0.0,
        "refine": True,
        "start_size": 0.02,
        "norm": "fixed",
        "frozen_stages": -1,
    },
}
"""Constructor options of the card's variants."""
