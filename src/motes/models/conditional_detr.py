"""Conditional DETR: queries look for content and at a place of their own, which makes training several times faster.

Meng et al., "Conditional DETR for Fast Training Convergence", ICCV 2021. As mmdetection runs it, names included; the
published setting gives the decoder's feed-forward parts 1024 units and the encoder's 2048, which its weights need.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_towers import prior_bias
from motes.layers.conditional_attention import ConditionalAttention
from motes.layers.query_transformer import (
    MLP,
    DecoderLayer,
    FeedForward,
    inverse_sigmoid,
    map_positions,
    point_positions,
    start_transformer,
)
from motes.models.detr import CHANNELS, Encoder, SetHead
from motes.models.query_detector import QueryDetector, create_tokens, start_boxes


class ConditionalDETR(QueryDetector):
    """300 queries with a reference point each, which boxes are relative to; K classes by sigmoid.

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a feature backbone of timm's.
        level: the map whose cells are the tokens. 5: the last one, stride 32; 4, 3, 2: of a feature pyramid, stride 16,
            8, 4 and 4, 16, 64 times the tokens.
        queries: most objects in a frame.
        encoder_layers, decoder_layers: depth; all decoder layers are supervised.
        dropout: in attention and feed-forward parts.
        start_size: side of the boxes at first, as a fraction of the frame.
        norm: "frozen", "fixed" or "train", of the backbone, see :mod:`motes.layers.box_backbone`.
        frozen_stages: of the backbone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        level: int = 5,
        queries: int = 300,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        dropout: float = 0.1,
        start_size: float = 0.5,
        norm: str = "frozen",
        frozen_stages: int = 1,
    ) -> None:
        super().__init__()
        self.queries = queries
        self.backbone, self.neck = create_tokens(backbone, level, in_channels, norm, frozen_stages)
        self.encoder = Encoder(encoder_layers, dropout)
        self.decoder = ConditionalDecoder(decoder_layers, dropout)
        self.query_embedding = nn.Embedding(queries, CHANNELS)
        self.bbox_head = SetHead(num_classes)
        start_transformer(self.encoder, self.decoder)
        nn.init.constant_(self.bbox_head.fc_cls.bias, prior_bias())
        start_boxes(self.bbox_head.fc_reg, start_size)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [L, B, Q, K] and boxes [L, B, Q, 4] (cx, cy, w, h) as fractions of the frame, of every layer."""
        (x,) = self.neck(self.backbone(images))
        places = map_positions(x, CHANNELS)
        memory = self.encoder(x.flatten(2).transpose(1, 2), places)
        queries = self.query_embedding.weight.repeat(images.shape[0], 1, 1)
        found, points = self.decoder(queries, memory, places)
        boxes = self.bbox_head.boxes(found)
        centres = boxes[..., :2] + inverse_sigmoid(points)
        return self.bbox_head.fc_cls(found), torch.cat((centres, boxes[..., 2:]), -1).sigmoid()


class ConditionalDecoder(nn.Module):
    """Queries attend to the tokens by content and, apart from it, by their reference point."""

    def __init__(self, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(
                ConditionalAttention(CHANNELS, dropout=dropout),
                ConditionalAttention(CHANNELS, dropout=dropout, across=True, first=i == 0),
                FeedForward(CHANNELS, 1024, dropout),
                CHANNELS,
            )
            for i in range(layers)
        )
        self.query_scale = MLP(CHANNELS, CHANNELS, CHANNELS, 2)
        self.ref_point_head = MLP(CHANNELS, CHANNELS, 2, 2)
        self.post_norm = nn.LayerNorm(CHANNELS)

    def forward(self, queries: Tensor, memory: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B, Q, C] -> what each layer found, [L, B, Q, C], and the reference points [B, Q, 2] in 0..1."""
        points = self.ref_point_head(queries).sigmoid()
        waves = point_positions(points, CHANNELS // 2)
        x, found = torch.zeros_like(queries), []
        for i, layer in enumerate(self.layers):
            across = {
                "memory": memory,
                "positions": queries,
                "memory_positions": places,
                "sine": waves if i == 0 else waves * self.query_scale(x),
            }
            x = layer(x, {"positions": queries}, across)
            found.append(self.post_norm(x))
        return torch.stack(found), points


PUBLISHED_NAMES = [*BACKBONE_NAMES]

VARIANTS: dict[str, dict[str, Any]] = {
    "small": {
        "level": 3,
        "queries": 100,
        "encoder_layers": 3,
        "dropout": 0.0,
        "start_size": 0.02,
        "norm": "fixed",
        "frozen_stages": -1,
    },
}
"""Constructor options of the card's variants."""
