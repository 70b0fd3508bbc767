"""The entry point of a GaoFen contest container: python run.py [INPUT_FOLDER [OUTPUT_FOLDER]] [--weights FILE]

Every image of the first folder gets a mask in the second: <stem>.png, 0 or 255. The weights are the one weight file
beside this script (.onnx, .safetensors, or what the authors' framework wrote), unless --weights or MOTES_WEIGHTS names
another. Nothing is fetched; without a GPU it runs on the CPU.
"""

import argparse
import os
import sys
from pathlib import Path

from motes.cli.app import main

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("images", nargs="?", default="/input_path", help="default: %(default)s")
parser.add_argument("masks", nargs="?", default="/output_path", help="default: %(default)s")
parser.add_argument("--weights", default=os.environ.get("MOTES_WEIGHTS") or str(Path(__file__).resolve().parent))
options = parser.parse_args()
sys.argv = ["motes", "contest", "gaofen", options.images, options.masks, "--weights", options.weights]
main()
