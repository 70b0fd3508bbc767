"""``motes data synthesize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_TARGETS, _SCENE, _CAMERA, _SET = "Targets", "Scene", "Camera", "Data set"


def register(app: typer.Typer) -> None:
    """Add the command to ``app`` (the ``motes data`` group)."""
    app.command("synthesize")(synthesize_command)


def synthesize_command(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder of the new data set; an interrupted one is continued.")],
    count: Annotated[int, typer.Option(help="How many frames.", rich_help_panel=_SET)] = 10,
    seed: Annotated[int, typer.Option(help="Another seed, other frames.", rich_help_panel=_SET)] = 0,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height x width, px.", rich_help_panel=_SET)] = "256x320",
    bits: Annotated[
        int, typer.Option(help="8 (display), 14 or 16 (sensor counts in 16-bit files).", rich_help_panel=_SET)
    ] = 14,
    layout: Annotated[
        str,
        typer.Option(
            help="sirstdevkit, open-sirst-v2, basicirstd, dnanet, serankdet, factseg, irstd1k or plain; aerial: isaid, "
            "isaid-masks, patches, gaofen-img, gaofen-sar, potsdam, vaihingen, classes.",
            rich_help_panel=_SET,
        ),
    ] = "plain",
    suffix: Annotated[str, typer.Option(help=".png, .tif, or .bmp for 8 bits.", rich_help_panel=_SET)] = ".png",
    test: Annotated[float, typer.Option(help="Share of the frames for testing.", rich_help_panel=_SET)] = 0.2,
    val: Annotated[float, typer.Option(help="Share of the frames for validation.", rich_help_panel=_SET)] = 0.2,
    scene: Annotated[
        str,
        typer.Option(help="cloud, sky, sea, ground, urban, mixed (of the first four) or flat.", rich_help_panel=_SCENE),
    ] = "mixed",
    targets: Annotated[
        str, typer.Option(metavar="N[:M]", help="Targets in a frame.", rich_help_panel=_TARGETS)
    ] = "0:3",
    snr: Annotated[
        str, typer.Option(metavar="A[:B]", help="Brightest pixel over sensor noise.", rich_help_panel=_TARGETS)
    ] = "5:15",
    scr: Annotated[
        str | None,
        typer.Option(
            metavar="A[:B]", help="Over the local spread, clutter too; replaces --snr.", rich_help_panel=_TARGETS
        ),
    ] = None,
    min_scr: Annotated[
        float, typer.Option(help="Look for places where a target stands out this much.", rich_help_panel=_TARGETS)
    ] = 2.0,
    extended: Annotated[
        float, typer.Option(help="Share of targets that are more than a point.", rich_help_panel=_TARGETS)
    ] = 0.4,
    target_size: Annotated[
        str, typer.Option(metavar="A[:B]", help="Length of those, px.", rich_help_panel=_TARGETS)
    ] = "2:7",
    mask_fraction: Annotated[
        float, typer.Option(help="Of its peak that a target adds to a pixel of its mask.", rich_help_panel=_TARGETS)
    ] = 0.25,
    psf: Annotated[
        str, typer.Option(metavar="A[:B]", help="Standard deviation of the optics' blur, px.", rich_help_panel=_CAMERA)
    ] = "0.6:1.2",
    netd: Annotated[float, typer.Option(help="Temporal noise at 300 K, mK.", rich_help_panel=_CAMERA)] = 50.0,
    fixed_pattern: Annotated[
        float, typer.Option(help="Column, row and pixel pattern, as a multiple of the usual.", rich_help_panel=_CAMERA)
    ] = 1.0,
    drift: Annotated[float, typer.Option(help="Slow pattern over the frame, K.", rich_help_panel=_CAMERA)] = 0.15,
    vignetting: Annotated[float, typer.Option(help="Centre to corner at most, K.", rich_help_panel=_CAMERA)] = 1.0,
    dead: Annotated[float, typer.Option(help="Share of pixels stuck at 0.", rich_help_panel=_CAMERA)] = 1e-5,
    hot: Annotated[float, typer.Option(help="Share of pixels stuck high.", rich_help_panel=_CAMERA)] = 1e-5,
    camera: Annotated[
        int | None, typer.Option(help="Give all frames the pattern of this camera.", rich_help_panel=_CAMERA)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make infrared frames with exact masks: clouds, sky, sea, ground; optics, noise, defects; any layout.

    The same seed gives the same frames. True positions, SNR and SCR of all targets go into OUT/targets.json. For aerial
    layouts, scenes with roads, roofs, vehicles, ships and planes and masks of classes; only --count, --seed and --size
    matter there.
    """
    from motes.data.aerial_scenes import FORMS
    from motes.data.synthetic_sets import ALIASES, LAYOUTS
    from motes.errors import DataError
    from motes.naming import look_up

    if layout.lower() not in ALIASES:
        look_up("layout", layout, (*LAYOUTS, *FORMS), DataError)
    if layout in FORMS:
        _aerial(context, out, layout, count, _size(size), seed, as_json)
        return
    from dataclasses import asdict

    from motes.data.sensor import Sensor
    from motes.data.synthesize import write_dataset

    height, width = _size(size)
    usual = Sensor()
    sensor = Sensor(
        netd=netd / 1000,
        column=usual.column * fixed_pattern,
        row=usual.row * fixed_pattern,
        pixel=usual.pixel * fixed_pattern,
        gain=usual.gain * fixed_pattern,
        vignetting=vignetting,
        drift=drift,
        dead=dead,
        hot=hot,
    )
    with _Progress() as progress:
        written = write_dataset(
            out,
            layout,
            count,
            seed,
            height=height,
            width=width,
            suffix=suffix if suffix.startswith(".") else f".{suffix}",
            test=test,
            val=val,
            progress=progress,
            kind=scene,
            bits=bits,
            targets=_range("targets", targets),
            snr=_range("snr", snr),
            scr=None if scr is None else _range("scr", scr),
            min_scr=min_scr,
            psf=_range("psf", psf),
            extended=extended,
            size=_range("target-size", target_size),
            mask_fraction=mask_fraction,
            sensor=sensor,
            camera=camera,
        )
    if as_json:
        import json

        typer.echo(json.dumps({"root": str(out), **asdict(written)}))
        return
    there = f", {written.kept} were there" if written.kept else ""
    parts = ", ".join(f"{n} {part}" for part, n in written.parts.items())
    typer.echo(f"{out}: {written.made} frames made{there}; {written.targets} targets; {parts}")


def _aerial(
    context: typer.Context, out: Path, layout: str, count: int, size: tuple[int, int], seed: int, as_json: bool
) -> None:
    from motes.data.aerial_scenes import write_aerial
    from motes.errors import DataError

    given = [n for n in context.params if getattr(context.get_parameter_source(n), "name", "") == "COMMANDLINE"]
    useless = [n for n in given if n not in ("out", "layout", "count", "size", "seed", "as_json")]
    if useless:
        option = useless[0].replace("_", "-")
        raise DataError(f"--{option} says nothing about aerial scenes (layout '{layout}')", "leave it out")
    with _Progress() as progress:
        parts = write_aerial(out, layout, count, size, seed, progress=progress)
    if as_json:
        import json

        typer.echo(json.dumps({"root": str(out), "layout": layout, "images": count, "parts": parts}))
        return
    typer.echo(f"{out}: {count} scenes; {', '.join(f'{n} {part}' for part, n in parts.items())}")


def _size(text: str) -> tuple[int, int]:
    from motes.errors import DataError

    height, _, width = text.lower().replace("×", "x").partition("x")
    if not (height.strip().isdecimal() and width.strip().isdecimal()):
        raise DataError(f"size is '{text}', expected height x width in pixels", "for instance 256x320")
    return int(height), int(width)


def _range(name: str, text: str) -> tuple[float, float]:
    from motes.errors import DataError

    low, colon, high = text.partition(":")
    try:
        numbers = [float(low), float(high if colon else low)]
    except ValueError:
        raise DataError(f"--{name} is '{text}', expected a number or a range", "for instance 4:12") from None
    return numbers[0], numbers[1]


class _Progress:
    """A bar while stderr is a terminal, nothing elsewhere."""

    def __enter__(self) -> Any:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self.bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self.bar.start()
        self.task = self.bar.add_task("frames")
        return lambda done, count: self.bar.update(self.task, completed=done, total=count)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
