"""Checks the licences of everything installed beside this Python, libraries bundled in wheels included.

    python .ci/licences.py            # lists the exceptions; exit code 1 where something is not allowed

What a package declares must be permissive. Whatever is not must be named here, with the reason.
"""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import PurePosixPath

PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-CMU",
    "MIT-0", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
}  # fmt: skip
OTHER_NAMES = {
    "2-Clause BSD License", "3-Clause BSD License", "Apache 2.0", "Apache License 2.0", "Apache License, Version 2.0",
    "Apache Software License", "BSD 2-Clause License", "BSD 3-Clause License", "BSD License", "ISC License",
    "ISC License (ISCL)", "MIT License", "PSF License", "Python Software Foundation License", "The MIT License",
}  # fmt: skip
"""How older metadata spells them."""

COPYLEFT = re.compile(r"\b(A|L)?GPL|GNU|affero|EUPL|SSPL|CC-BY-(NC|SA)|\bCPAL|\bOSL", re.IGNORECASE)

PACKAGES = {
    "nvidia-*": "CUDA libraries that PyTorch's Linux wheels ask for: NVIDIA's terms, free to use, not ours to ship",
    "cuda-toolkit": "an empty package that selects the above",
    "certifi": "MPL-2.0: Mozilla's list of root certificates, used unchanged, by requests and huggingface_hub",
    "tqdm": "MPL-2.0 and MIT: used unchanged, by lightning and huggingface_hub",
    "pathspec": "MPL-2.0: used unchanged, by mypy and mkdocs only",
    "faster-coco-eval": "Apache-2.0 by the licence file in its wheel, nothing in its metadata: used by the tests only",
    "hypothesis": "MPL-2.0: used unchanged, by the tests only",
}
"""Packages that are not permissive, by name: why they may be here."""

BUNDLED = {
    "FFmpeg": (
        {"opencv-python-headless"},
        "LGPL-2.1: OpenCV reads and writes video with it",
    ),
    "GCC run-time": (
        {"imagecodecs", "numpy", "opencv-python-headless", "scipy", "torch"},
        "GPL with run-time exception and LGPL: OpenMP, and the Fortran parts of OpenBLAS",
    ),
    "CUDA": ({"torchvision", "triton"}, "NVIDIA's terms, as above"),
}
"""Libraries inside wheels that are not permissive: which packages may bring them, and why."""

LIBRARIES = {
    "FFmpeg": r"lib(avcodec|avformat|avutil|avdevice|avfilter|swscale|swresample)|opencv_videoio_ffmpeg",
    "GCC run-time": r"lib(gfortran|quadmath|gomp)",
    "CUDA": r"lib(cudart|cupti|nvjpeg|nvperf|cublas|cudnn|nccl)",
    "x264 or x265": r"lib(x264|x265)|x26[45]\.(dll|dylib)",
    "another GPL library": r"lib(postproc|xvidcore|fftw3|gsl|gmp|mpfr|readline|rubberband|vidstab|cdio|poppler)",
    "another LGPL library": r"lib(geos|de265|heif|mp3lame|soxr|iconv|intl|glib|gobject|Qt5|Qt6|sndfile|usb)[-._0-9]",
}
SHARED_LIBRARY = re.compile(r"\.(so|dll|dylib|pyd)(\.|$)")


def main() -> int:
    problems: list[str] = []
    exceptions: dict[str, list[str]] = {}
    packages = sorted(metadata.distributions(), key=lambda d: d.name.lower())
    for package in packages:
        name = package.name.lower()
        pattern = next((p for p in PACKAGES if fnmatch.fnmatch(name, p)), None)
        if pattern is not None:
            exceptions.setdefault(PACKAGES[pattern], []).append(name)
            continue
        licences = declared(package)
        if not permissive(licences):
            problems.append(f"{name} {package.version}: {' / '.join(licences) or 'declares no licence'}")
        for library in sorted(bundled(str(f) for f in package.files or ())):
            allowed, reason = BUNDLED.get(library, (set(), ""))
            if name in allowed:
                exceptions.setdefault(f"{library}, {reason}", []).append(f"inside {name}")
            else:
                problems.append(f"{name} {package.version} bundles {library}")
        problems += [f"{name}: {file} was built with GPL parts" for file in gpl_builds(package)]
    print(f"{len(packages)} packages, all permissive but these:")
    for reason, names in exceptions.items():
        print(f"  {', '.join(names)}\n      {reason}")
    for line in problems:
        print(f"  NOT ALLOWED: {line}")
    return 1 if problems else 0


def declared(package: metadata.Distribution) -> list[str]:
    """What the package says of itself: its SPDX expression, else its classifiers, else the first line of its text."""
    meta = package.metadata
    if expression := meta.get("License-Expression"):
        return [expression]
    classifiers = [c.split("::")[-1].strip() for c in meta.get_all("Classifier", []) if c.startswith("License ::")]
    if named := [c for c in classifiers if c != "OSI Approved"]:
        return named
    text = (meta.get("License") or "").strip()
    return [text.splitlines()[0].strip()] if text and text != "UNKNOWN" else []


def permissive(licences: Iterable[str]) -> bool:
    """Whether all of these are: SPDX expressions (one side of OR is enough) or the usual long names."""
    licences = list(licences)
    return bool(licences) and all(_expression(text) for text in licences)


def _expression(text: str) -> bool:
    if _known(text):
        return True
    if COPYLEFT.search(text) and not re.search(r"\bOR\b", text):
        return False
    plain = re.sub(r"\bWITH [\w.-]+", "", text.replace("(", " ").replace(")", " "))
    parts = re.split(r"\s+AND\s+", plain.strip())
    return all(any(_known(one) for one in re.split(r"\s+OR\s+", part)) for part in parts)


def _known(text: str) -> bool:
    return text.strip().lower() in {name.lower() for name in PERMISSIVE | OTHER_NAMES}


def bundled(files: Iterable[str]) -> set[str]:
    """The libraries of ``LIBRARIES`` among these files of a wheel."""
    names = [PurePosixPath(f).name for f in files]
    shared = [n for n in names if SHARED_LIBRARY.search(n)]
    return {library for library, pattern in LIBRARIES.items() if any(re.match(pattern, n) for n in shared)}


def gpl_builds(package: metadata.Distribution) -> list[str]:
    """FFmpeg libraries whose own configuration says that GPL parts were compiled in."""
    found = []
    for file in package.files or ():
        if re.match(LIBRARIES["FFmpeg"], file.name) and SHARED_LIBRARY.search(file.name):
            content = package.locate_file(file).read_bytes()  # type: ignore[attr-defined]
            if b"--enable-gpl" in content or b"--enable-nonfree" in content:
                found.append(file.name)
    return found


if __name__ == "__main__":
    sys.exit(main())
