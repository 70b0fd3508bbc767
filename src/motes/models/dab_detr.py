"""DAB-DETR: the queries are boxes, refined from layer to layer, and attention widens with their size.

Liu et al., "DAB-DETR: Dynamic Anchor Boxes are Better Queries for DETR", ICLR 2022. As mmdetection runs it, names
included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_towers import prior_bias
from motes.layers.conditional_attention import ConditionalAttention
from motes.layers.query_transformer import (
    MLP,
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    inverse_sigmoid,
    map_positions,
    point_positions,
    start_transformer,
)
from motes.losses.set_matching import SetLoss
from motes.models.detr import CHANNELS
from motes.models.query_detector import QueryDetector, create_tokens, logit

TEMPERATURE = 20.0
"""Of the positions of the tokens; those of the queries have 10000."""


class DABDETR(QueryDetector):
    """300 queries, each a box that every layer refines; K classes by sigmoid.

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a feature backbone of timm's.
        level: the map whose cells are the tokens. 5: the last one, stride 32; 4, 3, 2: of a feature pyramid, stride 16,
            8, 4 and 4, 16, 64 times the tokens.
        queries: most objects in a frame.
        encoder_layers, decoder_layers: depth; all decoder layers are supervised.
        dropout: in attention and feed-forward parts.
        start_size: side of the queries at first, as a fraction of the frame; None, as published: random, .5 to .73.
        norm: "frozen", "fixed" or "train", of the backbone, see :mod:`motes.layers.box_backbone`.
        frozen_stages: of the backbone.
    """

    set_loss = SetLoss(class_weight=1.0)

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
        start_size: float | None = None,
        norm: str = "frozen",
        frozen_stages: int = 1,
    ) -> None:
        super().__init__()
        self.queries = queries
        self.backbone, self.neck = create_tokens(backbone, level, in_channels, norm, frozen_stages)
        self.encoder = ScaledEncoder(encoder_layers, dropout)
        self.decoder = AnchorDecoder(decoder_layers, dropout)
        self.query_embedding = nn.Embedding(queries, 4)
        self.bbox_head = AnchorHead(num_classes)
        start_transformer(self.encoder, self.decoder)
        nn.init.constant_(self.bbox_head.fc_cls.bias, prior_bias())
        nn.init.zeros_(self.bbox_head.fc_reg.layers[-1].weight)
        nn.init.zeros_(self.bbox_head.fc_reg.layers[-1].bias)
        nn.init.uniform_(self.query_embedding.weight)
        if start_size is not None:
            with torch.no_grad():
                self.query_embedding.weight[:, :2] = inverse_sigmoid(self.query_embedding.weight[:, :2], 1e-3)
                self.query_embedding.weight[:, 2:] = logit(start_size)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [L, B, Q, K] and boxes [L, B, Q, 4] (cx, cy, w, h) as fractions of the frame, of every layer."""
        (x,) = self.neck(self.backbone(images))
        places = map_positions(x, CHANNELS, TEMPERATURE)
        memory = self.encoder(x.flatten(2).transpose(1, 2), places)
        anchors = self.query_embedding.weight.repeat(images.shape[0], 1, 1).sigmoid()
        found, anchors = self.decoder(anchors, memory, places, self.bbox_head.fc_reg)
        boxes = self.bbox_head.fc_reg(found) + inverse_sigmoid(anchors)
        return self.bbox_head.fc_cls(found), boxes.sigmoid()


class ScaledEncoder(nn.Module):
    """Attention among the tokens; every layer scales their positions by what it sees (``query_scale``)."""

    def __init__(self, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(
                Attention(CHANNELS, dropout=dropout),
                FeedForward(CHANNELS, 2048, dropout, nn.PReLU),
                CHANNELS,
            )
            for _ in range(layers)
        )
        self.query_scale = MLP(CHANNELS, CHANNELS, CHANNELS, 2)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, positions=places * self.query_scale(x))
        return x


class AnchorDecoder(nn.Module):
    """Queries are boxes; the box a layer predicts is where the next one looks."""

    def __init__(self, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(
                ConditionalAttention(CHANNELS, dropout=dropout),
                ConditionalAttention(CHANNELS, dropout=dropout, across=True, first=i == 0),
                FeedForward(CHANNELS, 2048, dropout, nn.PReLU),
                CHANNELS,
            )
            for i in range(layers)
        )
        self.query_scale = MLP(CHANNELS, CHANNELS, CHANNELS, 2)
        self.ref_point_head = MLP(2 * CHANNELS, CHANNELS, CHANNELS, 2)
        self.ref_anchor_head = MLP(CHANNELS, CHANNELS, 2, 2)
        self.post_norm = nn.LayerNorm(CHANNELS)

    def forward(
        self, anchors: Tensor, memory: Tensor, places: Tensor, refine: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Boxes [B, Q, 4] in 0..1 -> what each layer found [L, B, Q, C], and the boxes each started from [L, B, Q, 4].

        A layer looks from boxes that are detached; those that are returned have the gradient of the layer before.
        """
        x, found, starts = torch.zeros_like(anchors[..., :1]).expand(-1, -1, CHANNELS), [], [anchors]
        for i, layer in enumerate(self.layers):
            waves = point_positions(anchors, CHANNELS // 2)
            queries = self.ref_point_head(waves)
            sine = waves[..., :CHANNELS]
            if i:
                sine = sine * self.query_scale(x)
            widths = self.ref_anchor_head(x).sigmoid() / anchors[..., 2:]
            # The first half of the waves is of rows: it goes with the height.
            sine = (sine.unflatten(-1, (2, -1)) * widths.flip(-1).unsqueeze(-1)).flatten(-2)
            across = {"memory": memory, "positions": queries, "memory_positions": places, "sine": sine}
            x = layer(x, {"positions": queries}, across)
            refined = (refine(x) + inverse_sigmoid(anchors)).sigmoid()
            starts.append(refined)
            anchors = refined.detach()
            found.append(self.post_norm(x))
        return torch.stack(found), torch.stack(starts[:-1])


class AnchorHead(nn.Module):
    """Class logits and what is added to a box before the sigmoid; ``fc_reg`` refines in the decoder, too."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(CHANNELS, classes)
        self.fc_reg = MLP(CHANNELS, CHANNELS, 4, 3)


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
