"""DETR: a transformer turns the coarsest map of a backbone into a set of boxes, one a query.

Carion, Massa, Synnaeve, Usunier, Kirillov, Zagoruyko, "End-to-End Object Detection with Transformers", ECCV 2020. As
mmdetection runs it, names included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.query_transformer import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    map_positions,
    start_transformer,
)
from motes.losses.set_matching import SetLoss
from motes.models.query_detector import QueryDetector, create_tokens, logit

CHANNELS = 256


class DETR(QueryDetector):
    """100 queries attend to the tokens of one map; K + 1 classes by softmax, the last one is "nothing".

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

    set_loss = SetLoss(softmax=True, class_cost=1.0, class_weight=1.0)

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        level: int = 5,
        queries: int = 100,
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
        self.decoder = Decoder(decoder_layers, dropout)
        self.query_embedding = nn.Embedding(queries, CHANNELS)
        self.bbox_head = SetHead(num_classes + 1)
        start_transformer(self.encoder, self.decoder)
        nn.init.constant_(self.bbox_head.fc_reg.bias[2:], logit(start_size))

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [L, B, Q, K + 1] and boxes [L, B, Q, 4] (cx, cy, w, h) as fractions of the frame, of every layer."""
        (x,) = self.neck(self.backbone(images))
        places = map_positions(x, CHANNELS)
        memory = self.encoder(x.flatten(2).transpose(1, 2), places)
        queries = self.query_embedding.weight.repeat(images.shape[0], 1, 1)
        found = self.decoder(queries, memory, places)
        return self.bbox_head.fc_cls(found), self.bbox_head.boxes(found).sigmoid()


class Encoder(nn.Module):
    """Layers of attention among the tokens."""

    def __init__(self, layers: int, dropout: float, hidden: int = 2048) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(Attention(CHANNELS, dropout=dropout), FeedForward(CHANNELS, hidden, dropout), CHANNELS)
            for _ in range(layers)
        )

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, positions=places)
        return x


class Decoder(nn.Module):
    """Layers of attention among the queries and to the tokens; ``post_norm`` is of what each layer gives away."""

    def __init__(self, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(
                Attention(CHANNELS, dropout=dropout),
                Attention(CHANNELS, dropout=dropout),
                FeedForward(CHANNELS, 2048, dropout),
                CHANNELS,
            )
            for _ in range(layers)
        )
        self.post_norm = nn.LayerNorm(CHANNELS)

    def forward(self, queries: Tensor, memory: Tensor, places: Tensor) -> Tensor:
        """Queries [B, Q, C] -> [L, B, Q, C].

        Queries are places; their contents start at zero, so that the first attention among them sees nothing and its
        ``in_proj_weight`` never trains, as published.
        """
        x, found = torch.zeros_like(queries), []
        for layer in self.layers:
            across = {"memory": memory, "positions": queries, "memory_positions": places}
            x = layer(x, {"positions": queries}, across)
            found.append(self.post_norm(x))
        return torch.stack(found)


class SetHead(nn.Module):
    """Class logits (``fc_cls``) and boxes before the sigmoid of what the decoder found."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(CHANNELS, classes)
        self.reg_ffn = FeedForward(CHANNELS, CHANNELS, dropout=0.0, residual=False)
        self.fc_reg = nn.Linear(CHANNELS, 4)

    def boxes(self, x: Tensor) -> Tensor:
        return self.fc_reg(torch.relu(self.reg_ffn(x)))


PUBLISHED_NAMES = [*BACKBONE_NAMES]

VARIANTS: dict[str, dict[str, Any]] = {
    "small": {
        "level": 3,
        "encoder_layers": 3,
        "dropout": 0.0,
        "start_size": 0.02,
        "norm": "fixed",
        "frozen_stages": -1,
    },
}
"""Constructor options of the card's variants."""
