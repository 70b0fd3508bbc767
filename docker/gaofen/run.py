"""The entry point of a GaoFen contest container: python run.py [INPUT_FOLDER [OUTPUT_FOLDER]] [--weights FILE]

Every image of the first folder gets a mask in the second: <stem>.png, 0 or 255. The weights are the one weight file
beside this script (.onnx, .safetensors, or what the authors' framework wrote), unless --weights or MOTES_WEIGHTS names
another. Nothing is fetched; without a GPU it runs on the CPU.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from motes.cli.app import main


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default="/input_path", help="default: %(default)s")
    parser.add_argument("masks", nargs="?", default="/output_path", help="default: %(default)s")
    parser.add_argument("--weights", default=os.environ.get("MOTES_WEIGHTS") or str(Path(__file__).resolve().parent))
    parser.add_argument("--check", action="store_true", help="run on a blank image instead, and keep nothing")
    return parser.parse_args()


def run(images: str, masks: str, weights: str) -> None:
    """As if typed; ends the process."""
    sys.argv = ["motes", "contest", "gaofen", images, masks, "--weights", weights]
    main()


def check(weights: str) -> None:
    import numpy as np

    from motes.imaging import write_image

    with tempfile.TemporaryDirectory() as folder:
        write_image(Path(folder, "in", "blank.png"), np.zeros((600, 400, 3), np.uint8))
        run(str(Path(folder, "in")), str(Path(folder, "out")), weights)


if __name__ == "__main__":
    given = options()
    if given.check:
        check(given.weights)
    run(given.images, given.masks, given.weights)
