"""Weight files: safe reading of any published checkpoint, writing for other frameworks, strict loading into a network.

Importing this room does not import torch; ``load_published`` and ``load_network`` do when called.
"""

from __future__ import annotations

from motes.checkpoints.loading import load_network
from motes.checkpoints.matching import load_published
from motes.checkpoints.reading import read_card, read_state
from motes.checkpoints.safetensors_files import write_safetensors
from motes.checkpoints.state import State
from motes.checkpoints.writing import write_state

__all__ = ["State", "load_network", "load_published", "read_card", "read_state", "write_safetensors", "write_state"]
