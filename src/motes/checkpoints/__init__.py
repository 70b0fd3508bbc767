"""Weight files: safe reading of any published checkpoint, our own ``.safetensors``, strict loading into a network.

Importing this room does not import torch; ``load_published`` and ``load_network`` do when called.
"""

from __future__ import annotations

from motes.checkpoints.loading import load_network
from motes.checkpoints.matching import load_published
from motes.checkpoints.reading import read_card, read_state
from motes.checkpoints.safetensors_files import write_safetensors

__all__ = ["load_network", "load_published", "read_card", "read_state", "write_safetensors"]
