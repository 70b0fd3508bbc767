"""Answers ``motes`` command lines, each in a fork of a process that has paid for ``import torch`` once.

A fork runs what the console script runs, ``motes.cli.app:main``, with its own arguments, stdout, stderr and exit code.
Reads JSON lines ``{"argv", "cwd", "out", "err", "interrupt", "limit"}``, answers with the exit code. ``interrupt``:
seconds after which the fork and its own children get SIGINT, as from Ctrl-C. ``limit``: no file may grow beyond so many
bytes, as on a full disk.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import traceback
import warnings

PRELOADED = (
    "motes.cli.app", "cv2", "onnxruntime", "scipy.ndimage", "tifffile", "rich.progress", "matplotlib.pyplot", "torch",
    "lightning.fabric", "onnx", "safetensors.torch", "motes.data", "motes.inference.run", "motes.metrics.folders",
    "motes.evaluation", "motes.export", "motes.training.loop", "motes.benchmark.bench",
)  # fmt: skip
SECONDS = 90
AGAIN = 12.0  # longer than it takes to end workers that are still starting


def run(argv: list[str], out: str, err: str, interrupt: float | None, limit: int | None) -> int:
    """The fork's part; returns the exit code that the interpreter would give."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupt is None:
        signal.alarm(SECONDS)
    else:
        times = 0

        def ctrl_c(*_: object) -> None:
            # Again after a while, as a person would: C code that clears errors can swallow a KeyboardInterrupt.
            nonlocal times
            times += 1
            if times * AGAIN > SECONDS:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
            os.killpg(0, signal.SIGINT)

        signal.signal(signal.SIGALRM, ctrl_c)
        signal.setitimer(signal.ITIMER_REAL, interrupt, AGAIN)
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        opened = os.open(path, flags | (os.O_CREAT | os.O_TRUNC if number else 0), 0o600)
        os.dup2(opened, number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.argv = ["motes", *argv]
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    import torch

    torch.set_num_threads(1)
    code: object = 0
    try:
        importlib.import_module("motes.cli.app").main()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


def serve() -> None:
    warnings.simplefilter("ignore")  # newer Pythons warn when a process with threads forks
    for name in PRELOADED:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.chdir(request.pop("cwd"))
                code = run(**request)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    serve()
