"""``motes bench``: parameters, multiply-accumulates and latency; published costs, counted again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = """Examples:

  motes bench repisdnet --size 256,512 --backend torch,onnx --threads 2

  motes bench --published     parameters and GFLOPs of published tables, counted again
"""

CANDIDATES = """A detector up to its candidates. Counted: convolutions and matrix products, with the most proposals
there can be. Not counted: biases, norms, activations, pooling, resizing, the sampling of regions, the suppression of
doubles. Timed: the network, its proposals and the decoding; not the choice among the candidates."""

PUBLISHED = """Parameters: as published, and the same counted here with what is declared and never used; useful: what
this network has; frozen: those of them that are never trained (norms, first stages). GFLOPs of tables are
multiply-accumulates, here of 512x512: as published, counted without deformable convolutions, as there, and with them.
Ours are up to 1 % off: norms and resizing are not counted here, and attention is counted in another way."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("bench", epilog=EXAMPLES)(bench)


def bench(
    target: Annotated[
        str | None, typer.Argument(metavar="MODEL|WEIGHTS", help="A network, a weight file, a method.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Sides in px, separated by commas: 256,512 (the default) or 480x640.")
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="torch, onnx, openvino, also by commas; default: all that are installed.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: what each backend takes.")] = None,
    runs: Annotated[int | None, typer.Option(min=3, help="Timed runs, after three to warm up; default: 15.")] = None,
    model: Annotated[str | None, typer.Option(help="The network, where its names do not tell.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Count what tables print of a network instead; without a name: of all.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the numbers here as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Count parameters and MACs, and time one frame on every backend.

    torch runs the network as it is and merged; the others run what motes export would write. With --published nothing
    is timed: parameters and GFLOPs of published tables stand beside what is counted here, by their rules and by ours.
    """
    from motes.errors import MissingExtraError, MotesError

    if target is None and not published:
        raise MotesError("nothing to measure", "motes bench NAME, or --published for what tables print of all")
    ignored = {"size": size, "backend": backend, "threads": threads, "runs": runs, "model": model, "variant": variant}
    if published and (given := [f"--{name}" for name, value in ignored.items() if value is not None]):
        raise MotesError(
            f"{', '.join(given)} and --published do not go together: it counts what tables print, of whole networks at "
            "512x512, and times nothing",
            "leave --published out to count and time with these",
        )
    sizes = [_sides(text) for text in (size or "256,512").split(",")]
    backends = [b.strip() for text in backend or [] for b in text.split(",") if b.strip()]
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("motes bench", "train") from None
    import json

    result: Any
    if published or target is None:
        result = _published(target)
    else:
        from motes.benchmark.bench import bench as run

        result = run(target, sizes, backends, threads, runs or 15, model, variant)
    if output is not None:
        from motes.imaging import atomic_path

        with atomic_path(output) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    tables = _published_table if published else _tables
    typer.echo(json.dumps(result, indent=2) if as_json else tables(result))


def _published(target: str | None) -> list[dict[str, Any]]:
    from motes.benchmark.published_cost import networks_with_cost, published_costs
    from motes.cli.progress import progress

    with progress("counting", 1 if target else len(networks_with_cost())) as advance:
        return published_costs(target, advance)


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
        detector = result["task"] == "detection"
        theirs = ">MACs as published tables count" if detector else ">MACs of the authors' code"
        extra = any(r["published_macs"] != r["macs"] for r in result["complexity"])
        columns = ["form", ">size", ">parameters", ">MACs", *([theirs] if extra else [])]
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
    if result["task"] == "detection":
        parts.append(CANDIDATES)
    return "\n\n".join(parts)


def _published_table(rows: list[dict[str, Any]]) -> str:
    from motes.cli.tables import text_table

    cells = [
        [
            r["model"] + (f" ({r['variant']})" if r["variant"] else ""),
            f"{r['published_params']:,}",
            f"{r['counted_params']:,}",
            "yes" if r["counted_params"] == r["published_params"] else "NO",
            f"{r['params']:,}",
            f"{r['frozen_params']:,}",
            f"{r['published_macs'] / 1e9:.3f}" if r["published_macs"] else None,
            f"{r['counted_macs'] / 1e9:.3f}",
            f"{r['macs'] / 1e9:.3f}",
        ]
        for r in rows
    ]
    columns = ["network", ">published", ">counted", "equal", ">useful", ">frozen", ">published GFLOPs", ">counted"]
    return f"{text_table([*columns, '>with all'], cells)}\n\n{PUBLISHED}"
