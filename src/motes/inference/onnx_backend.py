"""ONNX Runtime on the CPU: the default backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motes.cards import Card
from motes.errors import CardError, CheckpointError
from motes.inference.onnx_card import read_onnx_card


class OnnxBackend:
    """Runs an ``.onnx`` file that carries its card.

    The file has one input [B, C, H, W] float32 and its first output is the logits [B, K, H, W]; those of a detector are
    its candidates (`box_detector.CandidateBackend`).

    Args:
        path: the file.
        threads: CPU threads of one run; None = one per physical core, as ONNX Runtime decides.
        card: a card for a file that has none; None reads the file's own.

    Raises:
        CheckpointError: the file is missing, truncated or not a network that ONNX Runtime can run.
        CardError: no card, or a card whose channels are not the network's.
    """

    def __init__(self, path: str | Path, threads: int | None = None, card: Card | None = None) -> None:
        self.path = Path(path)
        self.card = card or read_onnx_card(self.path)
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # A plan of the memory is made after the first run of a size, and its block comes on top of what that run took:
        # 200 MB more for windows of 896 px through FactSeg, and no faster.
        options.enable_mem_pattern = False
        options.log_severity_level = 3  # errors come back as exceptions; warnings would litter stderr
        if threads:
            options.intra_op_num_threads = threads
        # Threads may spin inside a run, but not after it: the next image is read and the last one written then.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = ort.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as e:  # ONNX Runtime's exceptions share no public parent
            raise CheckpointError(f"{self.path}: ONNX Runtime cannot load it: {_first_line(e)}") from None
        self._input = _check_input(self._session.get_inputs(), self.card, self.path)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, batch: np.ndarray) -> np.ndarray:
        """[B, C, H, W] float32 -> logits [B, K, H, W] float32."""
        (logits,) = self._run(self._outputs[:1], batch)
        return np.asarray(logits, dtype=np.float32)

    def candidates(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """[B, C, H, W] float32 -> everything that a detector says, by the names of the graph's outputs."""
        return dict(zip(self._outputs, self._run(self._outputs, batch), strict=True))

    def _run(self, names: list[str], batch: np.ndarray) -> list[np.ndarray]:
        try:
            found: list[np.ndarray] = self._session.run(names, {self._input: batch})
        except Exception as e:
            raise CheckpointError(
                f"{self.path}: ONNX Runtime failed on an input of shape {list(batch.shape)}: {_first_line(e)}"
            ) from None
        return found


def _check_input(inputs: list, card: Card, path: Path) -> str:
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise CheckpointError(f"{path}: expected one float input [B, C, H, W], found {found}")
    channels = inputs[0].shape[1]
    if isinstance(channels, int) and channels != card.input.channels:
        raise CardError(f"{path}: its card says {card.input.channels} input channels, the network takes {channels}")
    return str(inputs[0].name)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
