"""The card inside an ``.onnx`` file, read without ONNX Runtime and without the ``onnx`` package.

An ONNX file is one protobuf message (ModelProto); its field 14, ``metadata_props``, holds key/value pairs. Walking the
top level skips the graph in one step, so this takes microseconds whatever the size of the network.
"""

from __future__ import annotations

from pathlib import Path

from motes.cards import METADATA_KEY, Card
from motes.errors import CardError, CheckpointError

_METADATA_PROPS = 14


def read_onnx_card(path: str | Path) -> Card:
    """The card that ``motes export`` stored in the file.

    Raises:
        CheckpointError: no such file, or not an ONNX file.
        CardError: an ONNX file without a card, or with one that is malformed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise CheckpointError(f"{path}: {e.strerror or e}") from None
    text = onnx_metadata(data, str(path)).get(METADATA_KEY)
    if text is None:
        raise CardError(
            f"{path}: an ONNX network without a card, so how its input must be scaled is unknown",
            "write the file with 'motes export'",
        )
    return Card.from_json(text, str(path))


def onnx_with_card(data: bytes, card: Card, where: str = "network") -> bytes:
    """The same ONNX file with another card: the graph, the weights and all other metadata byte by byte as they are.

    Raises:
        CheckpointError: ``data`` is not an ONNX file.
    """
    onnx_metadata(data, where)
    kept, at = bytearray(), 0
    while at < len(data):
        field, value, end = _field(data, at)
        if field != _METADATA_PROPS or dict(_fields(value)).get(1) != METADATA_KEY.encode():
            kept += data[at:end]
        at = end
    entry = _message(1, METADATA_KEY.encode()) + _message(2, card.to_json().encode("utf-8"))
    return bytes(kept) + _message(_METADATA_PROPS, entry)


def onnx_metadata(data: bytes, where: str) -> dict[str, str]:
    """``metadata_props`` of a serialised ModelProto; raises CheckpointError if ``data`` is not one."""
    found = {}
    try:
        if not data:
            raise ValueError("empty")
        for field, value in _fields(data):
            if field == _METADATA_PROPS:
                entry = dict(_fields(value))
                found[entry[1].decode("utf-8")] = entry.get(2, b"").decode("utf-8")
    except (ValueError, IndexError, KeyError):
        raise CheckpointError(f"{where}: not an ONNX file, or a truncated one ({len(data)} bytes)") from None
    return found


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """(field number, payload) of every top-level field; numbers have an empty payload."""
    at, found = 0, []
    while at < len(data):
        field, payload, at = _field(data, at)
        found.append((field, payload))
    return found


def _field(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Field number, payload and end of the field that begins ``at``."""
    tag, at = _varint(data, at)
    field, wire = tag >> 3, tag & 7
    payload = b""
    if wire == 0:
        _, at = _varint(data, at)
    elif wire in (1, 5):
        at += 8 if wire == 1 else 4
    elif wire == 2:
        size, at = _varint(data, at)
        payload = data[at : at + size]
        at += size
    else:
        raise ValueError(f"wire type {wire}")
    if field == 0 or at > len(data):
        raise ValueError("truncated")
    return field, payload, at


def _message(field: int, payload: bytes) -> bytes:
    """A field that holds bytes: its tag, the length in groups of seven bits, the payload."""
    head, number = bytearray(), field << 3 | 2
    for value in (number, len(payload)):
        while value > 0x7F:
            head.append(value & 0x7F | 0x80)
            value >>= 7
        head.append(value)
    return bytes(head) + payload


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint")
