"""``motes evaluate``: weights on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motes.cli.settings import HELP as SETTINGS
from motes.cli.settings import settings as read_settings
from motes.errors import CardError, CheckpointError, DataError, MissingExtraError

if TYPE_CHECKING:
    from motes.data import Sample
    from motes.data.classes import ClassTable
    from motes.evaluation import BoxEvaluation, ClassEvaluation, Evaluation
    from motes.inference.backend import Backend
    from motes.metrics import BoxProtocol, ClassProtocol, Protocol


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog="Example: motes evaluate best.safetensors --data ~/data/sirst --split test_v1 -p repisdnet --show"
    )(evaluate)


def evaluate(
    weights: Annotated[str, typer.Argument(help="A weight file, a run folder, a shipped network, or a method.")],
    data: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
    split: Annotated[str | None, typer.Option(help="Its split, or a .txt list of ids; default: all frames.")] = None,
    protocol: Annotated[
        str,
        typer.Option("--protocol", "-p", help="The rules: native, repisdnet, ...; aerial window, ...; boxes deepir"),
    ] = "native",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where metrics.json goes.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Draw overlays and a gallery of failures.")] = False,
    show_dir: Annotated[Path | None, typer.Option(help="Where to draw; default: <work-dir>/show.")] = None,
    work_dir: Annotated[Path | None, typer.Option(help="Default: the folder of the weights.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every kept checkpoint of a run.")] = False,
    model: Annotated[str | None, typer.Option(help="The network, where the file does not tell.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant.")] = None,
    backend: Annotated[str, typer.Option(help="For .onnx files: onnx or openvino.")] = "onnx",
    layout: Annotated[str | None, typer.Option(help="Layout of the data set, where it is not recognised.")] = None,
    image_dir: Annotated[Path | None, typer.Option(help="Folder of images, instead of --data.")] = None,
    mask_dir: Annotated[Path | None, typer.Option(help="Folder of masks, with --image-dir.")] = None,
    split_file: Annotated[Path | None, typer.Option(help="List of ids, with --image-dir.")] = None,
    mask: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="Another mask for one frame.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Instead of the protocol's thresholds.")] = None,
    save_prob: Annotated[bool, typer.Option("--save-prob", help="Write probability maps, for motes plot.")] = False,
    save_labels: Annotated[bool, typer.Option("--save-labels", help="Aerial: write the predicted ids.")] = False,
    classes: Annotated[
        str | None, typer.Option(help="Aerial: isaid, potsdam, ..., or a class list; default: the data set's.")
    ] = None,
    window: Annotated[int | None, typer.Option(help="Aerial: side of a window in px, for the protocol's.")] = None,
    stride: Annotated[int | None, typer.Option(help="Aerial: distance of windows in px, for the protocol's.")] = None,
    scales: Annotated[str | None, typer.Option(metavar="S,S", help="Aerial: average over these scales.")] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Aerial: average with the mirrored image.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Aerial: windows that run at once.")] = 1,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=SETTINGS)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json instead of the table.")] = False,
) -> None:
    """Score weights on a data set under a named protocol."""
    from motes.imaging import check_writable

    changes = {"window": window, "stride": stride, "scales": scales, "flip": flip}
    rule = find_rule(protocol, threshold)
    files = weight_files(weights, every)
    samples, name, chosen, table = frames(data, split, layout, image_dir, mask_dir, split_file, classes)
    masks = dict(other_mask(text, {s.name for s in samples}) for text in mask or ())
    folder = work_dir or (Path(weights) if Path(weights).is_dir() else Path(weights).parent)
    # Methods and shipped networks have no folder of their own.
    named = "" if Path(weights).exists() else f"{Path(weights).name}-"
    for file in files:
        loaded = as_asked(load(file, model, variant, backend, **read_settings(settings or ())), protocol)
        aerial, boxes = loaded.card.task == "aerial", loaded.card.task == "detection"
        rules: Any
        if boxes:
            rules = box_rule(protocol, threshold, {**changes, "save-prob": save_prob or None, "mask": mask or None})
        elif aerial:
            rules = class_rule(protocol, threshold, save_prob, changes)
        else:
            rules = target_rule(rule, protocol, changes)
        label = rules.name.replace("*", "-changed")
        one = output or folder / "evaluate" / f"{named}{name}-{chosen or 'all'}-{label}"
        shown = show_dir or folder / "show"
        if every:
            one, shown = one / Path(file).stem, shown / Path(file).stem
        check_writable(one)
        options: dict[str, Any] = {
            "data": name, "split": chosen, "rule": rules, "masks": masks, "weights_sha256": sha256_of(file), "out": one,
            "show": shown if show or show_dir else None,
        }  # fmt: skip
        if boxes:
            del options["masks"]
            report_boxes(run_boxes(loaded, samples, **options), file, one, as_json)
        elif aerial:
            found = run_classes(loaded, samples, table, labels=save_labels, batch=batch, **options)
            report_classes(found, file, one, as_json)
        else:
            report(run(loaded, samples, probabilities=save_prob, **options), file, one, as_json)


def as_asked(backend: Any, protocol: str) -> Any:
    """A network that finds targets in maps gives boxes where the protocol is one for boxes."""
    from motes.metrics import BOX_PROTOCOLS

    if protocol not in BOX_PROTOCOLS or backend.card.task != "irstd":
        return backend
    from motes.inference.mask_boxes import MaskBoxes

    return MaskBoxes(backend)


def find_rule(name: str, threshold: float | None) -> Protocol | None:
    """The protocol for targets; None where the name is one for class maps only: the weights decide which is meant."""
    from motes.metrics import BOX_PROTOCOLS, CLASS_PROTOCOLS, PROTOCOLS
    from motes.metrics import protocol as find_protocol
    from motes.naming import look_up

    look_up("protocol", name, [*PROTOCOLS, *CLASS_PROTOCOLS, *BOX_PROTOCOLS])
    if name not in PROTOCOLS:
        return None
    rule = find_protocol(name)
    return rule if threshold is None else rule.at(threshold)


def target_rule(rule: Protocol | None, name: str, changes: dict[str, Any]) -> Protocol:
    """The protocol for a network that finds targets; refuses what only class maps have."""
    from motes.metrics import protocol as find_protocol

    given = [key for key, value in changes.items() if value is not None]
    if given:
        raise CardError(f"--{given[0]} is for aerial networks, and this one finds targets")
    return find_protocol(name) if rule is None else rule


def class_rule(name: str, threshold: float | None, save_prob: bool, changes: dict[str, Any]) -> ClassProtocol:
    """The protocol for an aerial network, with what the user changed; refuses what only targets have."""
    from motes.cli.predict import parse_scales
    from motes.metrics import class_protocol

    if threshold is not None or save_prob:
        option = "--threshold" if threshold is not None else "--save-prob"
        raise CardError(f"{option} is for networks that find targets, and this one gives every pixel a class")
    scales = changes["scales"]
    return class_protocol(name).replace(**{**changes, "scales": None if scales is None else parse_scales(scales)})


def box_rule(name: str, threshold: float | None, changes: dict[str, Any]) -> BoxProtocol:
    """The protocol for a network that finds boxes; refuses what only maps have."""
    from motes.metrics import box_protocol

    given = [key for key, value in changes.items() if value is not None]
    if given:
        raise CardError(f"--{given[0]} is for networks that give maps, and this one finds boxes")
    rule = box_protocol(name)
    return rule if threshold is None else rule.at(threshold)


def run_boxes(backend: Any, samples: list[Sample], **options: Any) -> BoxEvaluation:
    """The evaluation of a network that finds boxes, with a bar."""
    from motes.cli.progress import progress
    from motes.evaluation import evaluate_boxes
    from motes.inference import BoxDetector

    if not hasattr(backend, "boxes"):
        backend = BoxDetector(backend=backend)
    with progress("scoring", len(samples)) as advance:
        return evaluate_boxes(backend, samples, advance=advance, **options)


def report_boxes(result: BoxEvaluation, file: str, out: Path, as_json: bool) -> None:
    """Prints the table, the remarks and where the files are."""
    from rich.console import Console

    from motes.metrics.box_report import box_notes, box_table
    from motes.metrics.report import metrics_json

    if as_json:
        typer.echo(metrics_json(result.run, result.metrics))
        return
    facts, console = result.run, Console()
    title = (
        f"{file} on {facts['data']} {facts['split'] or ''}, protocol {facts['protocol']}, {len(result.score)} frames, "
        f"{facts['targets']} targets"
    )
    console.print(box_table(result.metrics, title))
    for line in [
        *box_notes(facts),
        *(f"warning: {w}" for w in result.warnings),
        f"written: {out / 'metrics.json'}, per_image.csv, curves.json",
    ]:
        console.print(line, style="yellow" if line.startswith("warning") else None, highlight=False, soft_wrap=True)


def run_classes(backend: Backend, samples: list[Sample], table: ClassTable | None, **options: Any) -> ClassEvaluation:
    """The evaluation of an aerial network, with a bar."""
    from motes.cli.progress import progress
    from motes.evaluation import evaluate_classes

    if table is None:
        raise DataError("the classes of the masks are not known", "add --classes isaid, or a class list")
    with progress("scoring", len(samples)) as advance:
        return evaluate_classes(backend, samples, table, advance=advance, **options)


def report_classes(result: ClassEvaluation, file: str, out: Path, as_json: bool) -> None:
    """Prints the tables, the remarks and where the files are."""
    from rich.console import Console

    from motes.metrics.class_report import WIDTH, class_notes, class_table, summary_table
    from motes.metrics.report import metrics_json

    if as_json:
        typer.echo(metrics_json(result.run, result.metrics))
        return
    facts, console = result.run, Console()
    console.width = max(console.width, WIDTH)
    what = "patches" if facts["rules"]["cut"] else "images"
    title = (
        f"{file} on {facts['data']} {facts['split'] or ''}, protocol {facts['protocol']}, {len(result.score)} {what}"
    )
    console.print(class_table(result.metrics, facts))
    console.print(summary_table(result.metrics, facts, title))
    for line in [
        *class_notes(facts),
        *(f"warning: {w}" for w in result.warnings),
        f"written: {out / 'metrics.json'}",
    ]:
        console.print(line, style="yellow" if line.startswith("warning") else None, highlight=False, soft_wrap=True)


def run(backend: Backend, samples: list[Sample], **options: Any) -> Evaluation:
    """The evaluation, with a bar."""
    from rich.console import Console
    from rich.progress import track

    from motes.evaluation import evaluate

    console = Console(stderr=True)
    off = not console.is_terminal
    bar = iter(track(range(len(samples)), "scoring", console=console, transient=True, disable=off))
    result = evaluate(backend, samples, advance=lambda: next(bar, None), **options)
    next(bar, None)
    return result


def report(result: Evaluation, file: str, out: Path, as_json: bool) -> None:
    """Prints the table, the remarks and where the files are."""
    from rich.console import Console

    from motes.metrics.report import metrics_json, notes, results_table

    if as_json:
        typer.echo(metrics_json(result.run, result.metrics))
        return
    facts = result.run
    title = (
        f"{file} on {facts['data']} {facts['split'] or ''}, protocol {facts['protocol']}, {len(result.score)} frames"
    )
    console = Console()
    console.print(results_table(result.metrics, title))
    rule = facts["options"].get("rule") if facts["form"] == "classical" else None
    for line in [
        *notes(facts),
        *([f"target: {rule}"] if rule else []),
        *(f"warning: {w}" for w in result.warnings),
        f"written: {out / 'metrics.json'}",
    ]:
        console.print(line, style="yellow" if line.startswith("warning") else None, highlight=False, soft_wrap=True)


def weight_files(weights: str, every: bool) -> list[str]:
    """The files that WEIGHTS means: itself, or the kept ones of a run folder."""
    folder = Path(weights)
    if not folder.is_dir():
        if every:
            raise CheckpointError(f"--all needs a run folder, found {weights}")
        return [weights]
    kept = sorted(folder.glob("*.safetensors"))
    if not kept:
        raise CheckpointError(f"{folder}: no .safetensors in this folder", "give a run folder of motes train")
    best = folder / "best.safetensors"
    return [str(p) for p in kept] if every else [str(best if best in kept else kept[-1])]


def frames(
    data: Path | None,
    split: str | None,
    layout: str | None,
    image_dir: Path | None,
    mask_dir: Path | None,
    split_file: Path | None,
    classes: str | None = None,
) -> tuple[list[Sample], str, str | None, ClassTable | None]:
    """Samples, the names of data set and split for the record, and the classes of the masks where they are known."""
    from motes.data import open_dataset
    from motes.data.lists import listed

    if data is None and image_dir is None:
        raise DataError("no data named", "add --data FOLDER, or --image-dir and --mask-dir")
    root = data or (image_dir or Path()).parent
    dataset = open_dataset(root, layout, image_dir=image_dir, mask_dir=mask_dir, split_file=split_file, classes=classes)
    chosen = split or (split_file.stem if split_file else None)
    if chosen and chosen.endswith(".txt"):
        samples, chosen = listed(dataset, chosen), Path(chosen).stem
    else:
        samples = dataset.split(chosen)
    if not samples:
        raise DataError(f"{root}: split '{split}' is empty")
    return samples, root.resolve().name, chosen, dataset.classes


def other_mask(text: str, names: set[str]) -> tuple[str, Path]:
    from motes.naming import look_up

    name, equals, file = text.partition("=")
    if not equals or not Path(file).is_file():
        raise DataError(f"--mask {text}: expected NAME=FILE with an existing file")
    return look_up("frame", name, names, DataError), Path(file)


def load(file: str, model: str | None, variant: str | None, backend: str, **settings: Any) -> Backend:
    """ONNX files and names run in the field half, other weight files with PyTorch; ``settings`` are a method's."""
    from motes.inference.backend import load_backend

    if not Path(file).is_file() or Path(file).suffix.lower() == ".onnx":
        return load_backend(file, backend, **settings)
    if settings:
        raise CardError(f"{file} is a network and has no option '{next(iter(settings))}'", "only methods have options")
    try:
        from motes.models.allocator import keep_freed_memory
    except ModuleNotFoundError:
        raise MissingExtraError(f"evaluating {Path(file).suffix} files", "train") from None
    from motes.checkpoints.backend import load_torch_backend

    keep_freed_memory()
    found: Backend = load_torch_backend(file, model, variant)
    return found


def sha256_of(file: str) -> str | None:
    import hashlib

    from motes.inference.backend import list_weights

    path = Path(file) if Path(file).is_file() else list_weights().get(file)
    if path is None:
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
