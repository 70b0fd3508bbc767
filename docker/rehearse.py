"""Does what the Dockerfiles say without a container engine: python docker/rehearse.py FOLDER WEIGHTS IMAGES MASKS

COPY goes into FOLDER, what .dockerignore leaves out is not there, RUN runs in a virtual environment of its own, and the
last ENTRYPOINT runs on IMAGES and MASKS with the network cut off (Linux: unshare). For the field image and a GaoFen
entry on top of it, with an .onnx file as its weights. It shows that the files and commands are enough; the base image
it cannot show.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile, with its continuation lines: RUN, ``--network=none``, the rest."""

    name: str
    flags: tuple[str, ...]
    text: str

    @property
    def words(self) -> list[str]:
        """The JSON list of an exec form, else the words."""
        return list(json.loads(self.text)) if self.text.startswith("[") else self.text.split()


def instructions(dockerfile: Path) -> list[Instruction]:
    """All of a Dockerfile, in order."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            flags = re.match(r"(--\S+\s+)*", rest)
            assert flags
            found.append(Instruction(name.upper(), tuple(flags[0].split()), rest[flags.end() :].strip()))
    return found


def stage(found: list[Instruction], name: str | None = None) -> list[Instruction]:
    """The instructions of one stage (the first, if it has no name) with those of the stages below it."""
    stages: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for one in found:
        if one.name == "FROM":
            base, *alias = re.split(r"\s+AS\s+", one.text, flags=re.IGNORECASE)
            current = [*stages.get(base, [one])]
            stages[alias[0] if alias else ""] = current
        else:
            current.append(one)
    return stages[name] if name else next(iter(stages.values()))


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file of the repository through; the last pattern that fits decides."""
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]  # the file and the folders that it is in
    inside = True
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        anywhere = pattern.removeprefix("**/")
        if any(part == anywhere for part in parts) if anywhere != pattern else any(_fits(p, pattern) for p in above):
            inside = line.startswith("!")
    return inside


def _fits(path: str, pattern: str) -> bool:
    ours, theirs = path.split("/"), pattern.split("/")
    return len(ours) == len(theirs) and all(fnmatch.fnmatch(o, t) for o, t in zip(ours, theirs, strict=True))


class Image:
    """A folder in the place of an image's root, and a virtual environment in that of its Python."""

    def __init__(self, root: Path) -> None:
        self.root, self.at = root, root
        self.arguments: dict[str, str] = {}
        self.entry: list[str] = []
        venv.create(root / "venv", with_pip=True)
        path = f"{root / 'venv' / 'bin'}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(root / "venv")}

    def build(self, steps: list[Instruction]) -> None:
        for step in steps:
            print(f"== {step.name} {' '.join((*step.flags, step.text))}", flush=True)
            getattr(self, step.name.lower(), self.skip)(step)

    def skip(self, step: Instruction) -> None:
        """FROM, CMD."""

    def arg(self, step: Instruction) -> None:
        name, _, default = step.text.partition("=")
        self.arguments.setdefault(name, default)

    def env(self, step: Instruction) -> None:
        self.environment |= dict(pair.split("=", 1) for pair in step.words)

    def workdir(self, step: Instruction) -> None:
        self.at = self.inside(step.text)
        self.at.mkdir(parents=True, exist_ok=True)

    def copy(self, step: Instruction) -> None:
        *sources, target = self.filled(step.text).split()
        place = self.inside(target)
        for source in sources:
            origin = REPOSITORY / source
            if origin.is_dir():
                for file in (f for f in sorted(origin.rglob("*")) if f.is_file()):
                    if in_context(file.relative_to(REPOSITORY).as_posix()):
                        goal = place / file.relative_to(origin)
                        goal.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, goal)
            elif in_context(source):
                shutil.copyfile(origin, place / Path(source).name)
            else:
                raise SystemExit(f"COPY {source}: .dockerignore leaves it out")

    def run(self, step: Instruction) -> None:
        command = (
            step.words
            if step.text.startswith("[")
            else ["/bin/sh", "-c", step.text.replace("/opt/", f"{self.root}/opt/")]
        )
        self.call(command, "--network=none" in step.flags)

    def entrypoint(self, step: Instruction) -> None:
        self.entry = [str(self.inside(w)) if w.startswith("/") else w for w in step.words]

    def call(self, command: list[str], cut_off: bool) -> None:
        """Runs a command in the image's folder and environment, ``cut_off`` without any network device but its own."""
        command = [*(("unshare", "--net", "--map-root-user") if cut_off else ()), *command]
        subprocess.run(command, cwd=self.at, env=self.environment, check=True)

    def inside(self, path: str) -> Path:
        return self.root / path[1:] if path.startswith("/") else self.at / path

    def filled(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda m: self.arguments.get(m[1], ""), text)


def main() -> None:
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    folder, weights, images, masks = (Path(a).resolve() for a in sys.argv[1:])
    lent = REPOSITORY / "docker" / "gaofen" / f"rehearsal{weights.suffix}"
    shutil.copyfile(weights, lent)
    try:
        image = Image(folder)
        image.build(stage(instructions(REPOSITORY / "docker" / "Dockerfile"), "field"))
        image.arguments["WEIGHTS"] = lent.relative_to(REPOSITORY).as_posix()
        image.build(stage(instructions(REPOSITORY / "docker" / "gaofen" / "Dockerfile")))
    finally:
        lent.unlink()
    print(f"== the judge's run, no network: {' '.join(image.entry)}", flush=True)
    image.call([*image.entry, str(images), str(masks)], cut_off=True)


if __name__ == "__main__":
    main()
