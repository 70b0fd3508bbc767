"""``motes bench``: parameters, multiply-accumulates and latency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("bench", epilog="Example: motes bench repisdnet --size 256,512 --backend torch,onnx --threads 2")(bench)


def bench(
    target: Annotated[str, typer.Argument(metavar="MODEL|WEIGHTS", help="A network, a weight file, a method.")],
    size: Annotated[str, typer.Option(help="Sides in px, separated by commas: 256,512 or 480x640.")] = "256,512",
    backend: Annotated[
        list[str] | None, typer.Option(help="torch, onnx, openvino, also by commas; default: all that are installed.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: what each backend takes.")] = None,
    runs: Annotated[int, typer.Option(min=3, help="Timed runs, after three to warm up.")] = 15,
    model: Annotated[str | None, typer.Option(help="The network, where its names do not tell.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the numbers here as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Count parameters and MACs, and time one frame on every backend.

    torch runs the network as it is and merged; the others run what motes export would write.
    """
    from motes.errors import MissingExtraError

    sizes = [_sides(text) for text in size.split(",")]
    backends = [b.strip() for text in backend or [] for b in text.split(",") if b.strip()]
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("motes bench", "train") from None
    import json

    from motes.benchmark.bench import bench as run

    result = run(target, sizes, backends, threads, runs, model, variant)
    if output is not None:
        from motes.imaging import atomic_path

        with atomic_path(output) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    typer.echo(json.dumps(result, indent=2) if as_json else _tables(result))


def _sides(text: str) -> tuple[int, int]:
    from motes.errors import MotesError

    parts = text.lower().strip().split("x")
    if len(parts) > 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise MotesError(f"--size '{text}' is not a size", "write 256 or 480x640 (height x width)")
    return int(parts[0]), int(parts[-1])


def _tables(result: dict[str, Any]) -> str:
    from motes.cli.tables import text_table

    machine = result["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
    parts = [f"{result['target']} on {machine['processor']}, {result['threads']} threads ({versions})"]
    if result["complexity"]:
        extra = any(r["published_macs"] != r["macs"] for r in result["complexity"])
        columns = ["form", ">size", ">parameters", ">MACs", *([">MACs of the authors' code"] if extra else [])]
        rows = [
            [
                r["form"],
                f"{r['height']}x{r['width']}",
                f"{r['params']:,}",
                f"{r['macs']:,}",
                *([f"{r['published_macs']:,}"] if extra else []),
            ]
            for r in result["complexity"]
        ]
        parts.append(text_table(columns, rows))
    first = {(r["height"], r["width"]): r["median_ms"] for r in reversed(result["latency"])}
    rows = [
        [
            r["backend"],
            r["form"],
            f"{r['height']}x{r['width']}",
            f"{r['median_ms']:.1f}",
            f"{r['best_ms']:.1f}",
            f"{r['frames_per_s']:.1f}",
            f"{first[r['height'], r['width']] / r['median_ms']:.2f}x",
        ]
        for r in result["latency"]
    ]
    parts.append(text_table(["backend", "form", ">size", ">median ms", ">best ms", ">frames/s", ">speed"], rows))
    return "\n\n".join(parts)
