"""OpenVINO on the CPU: an optional backend (``pip install 'motes[openvino]'``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from motes.errors import CardError, CheckpointError, MissingExtraError
from motes.inference.onnx_card import read_onnx_card


class OpenVinoBackend:
    """Runs the same ``.onnx`` file as ``OnnxBackend``, compiled by OpenVINO.

    Args:
        path: the file, with its card.
        threads: CPU threads; None leaves it to OpenVINO.
        precision: "f32" computes as ONNX Runtime does; "bf16" or "f16" let the hint lower it, where the CPU can, at the
            price of probabilities that differ in the third digit.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        CheckpointError: OpenVINO cannot read or compile the file.
        CardError: no card, or a card whose channels are not the network's.
    """

    def __init__(self, path: str | Path, threads: int | None = None, precision: str = "f32") -> None:
        self.path = Path(path)
        self.card = read_onnx_card(self.path)
        try:
            import openvino
        except ModuleNotFoundError:
            raise MissingExtraError("the openvino backend", "openvino") from None
        config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            core = openvino.Core()
            network = core.read_model(str(self.path))
            self._compiled = core.compile_model(network, "CPU", config)
        except RuntimeError as e:
            lines = [line.strip() for line in str(e).splitlines() if line.strip()]
            raise CheckpointError(f"{self.path}: OpenVINO cannot load it: {' '.join(lines[-1:])[:300]}") from None
        channels = network.inputs[0].partial_shape[1]
        if channels.is_static and channels.get_length() != self.card.input.channels:
            raise CardError(
                f"{self.path}: its card says {self.card.input.channels} input channels, "
                f"the network takes {channels.get_length()}"
            )

    def run(self, batch: np.ndarray) -> np.ndarray:
        """[B, C, H, W] float32 -> logits [B, K, H, W] float32."""
        return np.array(self._run(batch)[0], dtype=np.float32)

    def candidates(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """[B, C, H, W] float32 -> everything that a detector says, by the names of the graph's outputs."""
        found = self._run(batch)
        return {output.any_name: np.array(found[output]) for output in self._compiled.outputs}

    def _run(self, batch: np.ndarray) -> Any:
        try:
            return self._compiled(batch)
        except RuntimeError as e:
            last = [line.strip() for line in str(e).splitlines() if line.strip()][-1:]
            raise CheckpointError(
                f"{self.path}: OpenVINO failed on an input of shape {list(batch.shape)}: {' '.join(last)[:300]}"
            ) from None
