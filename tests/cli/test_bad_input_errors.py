"""Every command, every kind of bad input: exit code 2, one line that says what and where, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Motes, errors, files, words

TRAIN = (
    "train repisdnet_sirst data.root={w}/set data.train=null --runs {o} loop.batch_size=2 loop.epochs=1 loop.workers=0 "
    "transform.crop=32"
)
NO_LAYOUT = "{w}/empty is in no known data set layout"
REFUSED = "{w}/bomb.pth: refused, it asks for"
CUT = "{w}/cut.pth: cut short or damaged"
OTHER = "{w}/other.pth: its 2 tensors ('encoder.weight', ...) are of no known network"
NOT_A_FOLDER = "{w}/a file"
DNANET = "{w}/dnanet.pth: not weights of acm: 400 of its 400 tensors have no place"
THREE = "{w}/three.pth: not weights of acm: 2 differ in shape (head.block.4.weight [3, 4, 1, 1] instead of [1, 4, 1, 1]"
CUT_PNG = "{cut_of_six}: is a PNG cut short at 200 bytes"
WRONG_MASK = "{wrong} is 32x32 px, its image 64x80 (`motes data check` lists all such pairs)"

NAMES = [
    ("detct x", "Did you mean 'detect'?"),
    ("detect --treshold 0.5 {image}", "--threshold"),
    ("detect {w}/set/imagez -o {o} -m tophat", "no such file or folder (did you mean '{w}/set/images'?)"),
    ("detect {image} -o {o} -m topht", "unknown model 'topht' (did you mean 'tophat'?)"),
    ("detect {image} -o {o} -m {w}/cuts.onnx", "no such file (did you mean '{w}/cut.onnx'?)"),
    ("detect {image} -o {o} --backend onxx", "did you mean 'onnx'?"),
    ("detect {image} -o {o} -m tophat --format cvs", "did you mean 'csv'?"),
    ("detect {image} -o {o} -m tophat --set sizee=7", "did you mean 'size'?"),
    ("detect {image} -o {o} -m ipi --set tile=64", "unknown setting of a training-free method 'tile'"),
    ("demo -o {o} -m topht", "did you mean 'tophat'?"),
    ("score {w}/maps {w}/set/masks -o {o} -p dnanett", "did you mean 'dnanet'?"),
    ("score {w}/maps {w}/set -o {o} --split tset", "unknown split 'tset' (known: test_synthetic, train_synthetic)"),
    ("plot roc {w}/maps --gt {w}/set/masks -o {o}/x.pgn", "did you mean '.png'?"),
    ("plot pr {w}/maps --gt {w}/set/masks -o {o}/x.png -p nativ", "did you mean 'native'?"),
    ("plot surfac {image} -o {o}/x.png", "Did you mean 'surface'?"),
    ("data info {w}/sett", "did you mean {w}/set?"),
    ("data check {w}/set --layout basicirst", "did you mean 'basicirstd'?"),
    ("data split {w}/set --by near-twin -o {o}", "did you mean 'near-twins'?"),
    ("data split {w}/set --of trian -o {o}", "unknown split 'trian'"),
    ("data synthesize {o} --layout dnanett --count 1", "did you mean 'dnanet'?"),
    ("data synthesize {o} --scene clouds --count 1", "did you mean 'cloud'?"),
    ("models repisdnt", "did you mean 'repisdnet'?"),
    ("models --task irst", "did you mean 'irstd'?"),
    ("recipes repisdnet_sirs", "did you mean 'repisdnet_sirst'?"),
    ("train repisdnet_sirs", "did you mean 'repisdnet_sirst'?"),
    (f"{TRAIN} loop.epochz=1", "unknown key 'loop.epochz' (did you mean 'epochs'?)"),
    (f"{TRAIN} optimizer.name=Adagard", "did you mean 'Adagrad'?"),
    (f"{TRAIN} losses=[{{{{'name':'repisdnet.dise'}}}}]", "did you mean 'repisdnet.dice'?"),
    (f"{TRAIN} model.name=repisdnt", "did you mean 'repisdnet'?"),
    (f"{TRAIN} model.options.fromm=deploy", "unknown option of repisdnet 'fromm' (did you mean 'form'?)"),
    (f"{TRAIN} model.name=acm model.options.tiny=maybe", "option 'tiny' of acm must be true or false, found 'maybe'"),
    (f"{TRAIN} model.name=dnanet model.options.channels=treh", "did you mean 'three'?"),
    (f"{TRAIN} model.name=acm model.variant=unet-tinny", "did you mean 'unet-tiny'?"),
    ("train {w}/typo.yaml --runs {o}", "{w}/typo.yaml: unknown option of repisdnet 'fromm' (did you mean 'form'?)"),
    (f"{TRAIN} validation.protocol=nativ", "did you mean 'native'?"),
    (f"{TRAIN} validation.metric=uoi", "unknown validation metric 'uoi'"),
    (f"{TRAIN} data.train=trian", "unknown split 'trian'"),
    ("evaluate topht --data {w}/set -o {o}", "did you mean 'tophat'?"),
    ("evaluate {w}/net.safetensors --data {w}/set --split tset -o {o}", "unknown split 'tset'"),
    ("evaluate {w}/net.safetensors --data {w}/set -p nativ -o {o}", "did you mean 'native'?"),
    ("evaluate {w}/net.safetensors --data {w}/set --model repisdnt -o {o}", "did you mean 'repisdnet'?"),
    ("convert {w}/net.safetensors -o {o}/x.safetensors --form deplyo", "did you mean 'deploy'?"),
    ("convert {w}/net.safetensors -o {o}/x.safetensorz", "cannot write this format"),
    ("export {w}/net.safetensors -o {o}/x.onnx --data {w}/set --split tset", "unknown split 'tset'"),
    ("export {w}/net.safetensors -o {o}/x.onx", "expected a name that ends in .onnx"),
    ("bench repisdnt", "did you mean 'repisdnet'?"),
    ("bench tophat --backend onxx", "did you mean 'onnx'?"),
]

VALUES = [
    ("detect {image} -o {o} -m tophat --set size=abc", "must be odd and at least 3, found 'abc'"),
    ("detect {image} -o {o} -m tophat -t 1.5", "a threshold is a probability in [0, 1), found 1.5"),
    ("detect {image} -o {o} -m tophat --tile 4", "tiles of 4 px are too small"),
    ("detect {image} -o {o} -m tophat --fa 5", "the card of 'tophat' has no calibration curve"),
    ("score {w}/maps {w}/set/masks -o {o} --shard 5/4", "--shard '5/4' is not I/N"),
    ("score {w}/maps -o {o}", "expected two: PRED_DIR GT_DIR"),
    ("data split {w}/set --val 2 -o {o}", "leave nothing to train on"),
    ("data synthesize {o} --size 64 --count 1", "expected height x width in pixels"),
    ("data synthesize {o} --snr high --count 1", "--snr is 'high', expected a number or a range"),
    ("train", "give either a recipe or --resume RUN"),
    (f"{TRAIN} epochs", "'epochs' is not of the form key=value"),
    (f"{TRAIN} loop.epochs=many", "loop.epochs: input should be a valid integer"),
    (f"{TRAIN} loop.precision=bf17", "loop.precision: input should be '32-true', 'bf16-mixed' or '16-mixed'"),
    ("evaluate {w}/net.safetensors -o {o}", "no data named"),
    ("evaluate {w}/net.safetensors --all --data {w}/set -o {o}", "--all needs a run folder"),
    ("bench tophat --size big", "--size 'big' is not a size"),
]

PATHS = [
    ("detect {w}/nothing.png -o {o} -m tophat", "{w}/nothing.png: no such file or folder"),
    ("detect {w}/set/images/*.tif -o {o} -m tophat", "the pattern matches no image"),
    ("detect {w}/empty -o {o} -m tophat", "{w}/empty: no images in this folder"),
    ("detect {image} -o {o} -m {w}/set", "{w}/set: a folder, expected an .onnx file or a name"),
    ("detect {image} -o {o} -m {w}/nothing.pth --backend torch", "{w}/nothing.pth: no such file"),
    ("score {w}/nothing {w}/set/masks -o {o}", "{w}/nothing: no such folder, expected a folder of maps"),
    ("score {w}/maps {w}/nothing -o {o}", "{w}/nothing: no such folder, expected a folder of masks"),
    ("score {w}/empty {w}/set/masks -o {o}", "{w}/empty holds no image, expected maps"),
    ("score {w}/maps {w}/empty -o {o}", "{w}/empty holds no image, expected masks"),
    ("score {image} {w}/set/masks -o {o}", "is a file, expected a folder of maps"),
    ("score {w}/maps {w}/set/masks -o {o} --names {w}/nothing.txt", "{w}/nothing.txt: expected a text file"),
    ("score --merge {w}/maps -o {o}", "{w}/maps holds no state.npz and metrics.json"),
    ("plot roc {w}/nothing --gt {w}/set/masks -o {o}/x.png", "{w}/nothing: no such folder"),
    ("plot roc {w}/empty --gt {w}/set/masks -o {o}/x.png", "{w}/empty holds no image"),
    ("plot pr {w}/maps --gt {w}/nothing -o {o}/x.png", "{w}/nothing: no such folder"),
    ("plot surface {w}/nothing.png -o {o}/x.png", "{w}/nothing.png: no such file"),
    ("data info {w}/empty", NO_LAYOUT),
    ("data info {file}", "{w}/a file is a file, but a data set is a folder"),
    ("data info {w}/set --image-dir {w}/nothing --mask-dir {w}/set/masks", "image_dir: no such folder: {w}/nothing"),
    ("data check {w}/nothing", "no such folder: {w}/nothing"),
    ("data check {w}/empty", NO_LAYOUT),
    ("data split {w}/nothing -o {o}", "no such folder: {w}/nothing"),
    ("data split {w}/empty -o {o}", NO_LAYOUT),
    ("recipes {w}/nothing.yaml", "no recipe file {w}/nothing.yaml"),
    ("train {w}/nothing.yaml", "no recipe file {w}/nothing.yaml"),
    ("train {w}/text.yaml", "{w}/text.yaml holds no keys"),
    (f"{TRAIN} data.root={{w}}/nothing", "no data set at {w}/nothing"),
    (f"{TRAIN} data.root={{w}}/empty", NO_LAYOUT),
    (f"{TRAIN} model.init={{w}}/nothing.safetensors", "{w}/nothing.safetensors: no such file"),
    ("train --resume {w}/nothing", "{w}/nothing is no run"),
    ("train --resume {w}/set", "{w}/set is no run"),
    ("evaluate {w}/nothing.safetensors --data {w}/set -o {o}", "{w}/nothing.safetensors: no such file"),
    ("evaluate {w}/empty --data {w}/set -o {o}", "{w}/empty: no .safetensors in this folder"),
    ("evaluate tophat --data {w}/nothing -o {o}", "no such folder: {w}/nothing"),
    ("evaluate tophat --data {w}/empty -o {o}", NO_LAYOUT),
    ("convert {w}/nothing.pth -o {o}/x.safetensors", "{w}/nothing.pth: no such file"),
    ("convert {w}/empty -o {o}/x.safetensors", "{w}/empty: is a folder, expected a weight file"),
    ("export {w}/nothing.pth -o {o}/x.onnx", "{w}/nothing.pth: no such file"),
    ("export {w}/net.safetensors -o {o}/x.onnx --data {w}/empty", NO_LAYOUT),
    ("bench {w}/nothing.pth", "{w}/nothing.pth: no such file"),
]

WEIGHTS = [
    ("detect {image} -o {o} -m {w}/cut.onnx", "{w}/cut.onnx: not an ONNX file, or a truncated one"),
    ("detect {image} -o {o} -m {w}/text.onnx", "{w}/text.onnx: not an ONNX file, or a truncated one"),
    ("detect {image} -o {o} -m {w}/net.safetensors", "which ONNX Runtime cannot run (add --backend torch"),
    ("detect {image} -o {o} -m {w}/bomb.pth --backend torch", REFUSED),
    ("detect {image} -o {o} -m {w}/cut.pth --backend torch", CUT),
    ("detect {image} -o {o} -m {w}/other.pth --backend torch", OTHER),
    ("demo -o {o} -m {w}/cut.onnx", "{w}/cut.onnx: not an ONNX file, or a truncated one"),
    (f"{TRAIN} model.init={{w}}/bomb.pth", REFUSED),
    (f"{TRAIN} model.init={{w}}/cut.pth", CUT),
    (f"{TRAIN} model.init={{w}}/other.pth", "{w}/other.pth: not weights of repisdnet: 2 of its 2 tensors"),
    ("train --resume {w}/run-bomb", "{w}/run-bomb/last.ckpt: cut short, damaged or no checkpoint of a run"),
    ("train --resume {w}/run-cut", "{w}/run-cut/last.ckpt: cut short, damaged or no checkpoint of a run"),
    ("train --resume {w}/run-net", "{w}/run-net/last.ckpt: cut short, damaged or no checkpoint of a run"),
    ("evaluate {w}/bomb.pth --data {w}/set -o {o}", REFUSED),
    ("evaluate {w}/cut.pth --data {w}/set -o {o}", CUT),
    ("evaluate {w}/cut.safetensors --data {w}/set -o {o}", "{w}/cut.safetensors: cut short inside tensor"),
    ("evaluate {w}/cut.onnx --data {w}/set -o {o}", "{w}/cut.onnx: not an ONNX file, or a truncated one"),
    ("evaluate {w}/other.pth --data {w}/set -o {o}", OTHER),
    ("evaluate {w}/dnanet.pth --model acm --data {w}/set -o {o}", DNANET),
    ("evaluate {w}/three.pth --data {w}/set -o {o}", THREE),
    ("evaluate {w}/three.pth --model acm --data {w}/set -o {o}", THREE),
    ("evaluate {w}/cut-dnanet.pth --model dnanet --data {w}/set -o {o}", "{w}/cut-dnanet.pth: cut short or damaged"),
    ("evaluate {w}/bomb.pth --model dnanet --data {w}/set -o {o}", REFUSED),
    ("evaluate {w}/net.safetensors --model acm --data {w}/set -o {o}", "its card says it is repisdnet, not acm"),
    ("detect {image} -o {o} -m {w}/three.pth --backend torch", THREE),
    ("convert {w}/dnanet.pth --model acm -o {o}/x.safetensors", DNANET),
    ("convert {w}/three.pth -o {o}/x.safetensors", THREE),
    ("export {w}/three.pth -o {o}/x.onnx", THREE),
    ("bench {w}/three.pth", THREE),
    (f"{TRAIN} model.name=acm model.init={{w}}/dnanet.pth", DNANET),
    (f"{TRAIN} model.name=acm model.init={{w}}/three.pth", THREE),
    ("convert {w}/bomb.pth -o {o}/x.safetensors", REFUSED),
    ("convert {w}/cut.pth -o {o}/x.safetensors", CUT),
    ("convert {w}/text.pth -o {o}/x.safetensors", "{w}/text.pth: not a weight file"),
    ("convert {w}/other.pth -o {o}/x.safetensors", OTHER),
    ("convert {w}/other.pth -o {o}/x.safetensors --model repisdnet", "{w}/other.pth: not weights of repisdnet"),
    ("convert {w}/other.safetensors -o {o}/x.safetensors", "{w}/other.safetensors: its 2 tensors"),
    ("export {w}/bomb.pth -o {o}/x.onnx", REFUSED),
    ("export {w}/cut.pth -o {o}/x.onnx", CUT),
    ("export {w}/cut.safetensors -o {o}/x.onnx", "{w}/cut.safetensors: cut short inside tensor"),
    ("export {w}/cut.onnx -o {o}/x.onnx", "{w}/cut.onnx: an ONNX file runs as it is"),
    ("export {w}/other.pth -o {o}/x.onnx", OTHER),
    ("bench {w}/bomb.pth", REFUSED),
    ("bench {w}/cut.pth", CUT),
    ("bench {w}/cut.onnx", "{w}/cut.onnx: not an ONNX file, or a truncated one"),
    ("bench {w}/other.pth", OTHER),
]

SIZES = [
    ("evaluate tophat --data {w}/mixed -o {o}", "is 32x32 px, its image 64x80"),
    ("evaluate tophat --data {w}/broken -o {o}", CUT_PNG),
    ("evaluate tophat --data {w}/wrong -o {o}", WRONG_MASK),
    (f"{TRAIN} data.root={{w}}/broken", CUT_PNG),
    (f"{TRAIN} data.root={{w}}/broken data.train=train data.val=test", CUT_PNG),
    (f"{TRAIN} data.root={{w}}/wrong", WRONG_MASK),
    ("plot surface {image} -o {o}/x.png --gt {small}", "expected the same size"),
    ("detect {cut} -o {o} -m tophat", "is a PNG cut short at 200 bytes"),
]

# root may write where a read-only bit forbids it, but nobody can make a folder below a file.
UNWRITABLE = [
    ("detect {image} -o {file}/out -m tophat", NOT_A_FOLDER),
    ("detect {image} -o {file} -m tophat", "{w}/a file: is a file, expected a folder"),
    ("demo -o {file}/out -m tophat", NOT_A_FOLDER),
    ("score {w}/maps {w}/set/masks -o {file}/out", NOT_A_FOLDER),
    ("plot roc {w}/maps --gt {w}/set/masks -o {file}/x.png", NOT_A_FOLDER),
    ("plot pr {w}/maps --gt {w}/set/masks -o {file}/x.png", NOT_A_FOLDER),
    ("plot surface {image} -o {file}/x.png", NOT_A_FOLDER),
    ("data info {w}/set -o {file}/x.json", NOT_A_FOLDER),
    ("data check {w}/set -o {file}/x.json", NOT_A_FOLDER),
    ("data split {w}/set -o {file}/lists", NOT_A_FOLDER),
    ("data synthesize {file}/set --count 1 --size 64x64", NOT_A_FOLDER),
    (f"{TRAIN} --runs {{file}}/runs", NOT_A_FOLDER),
    ("evaluate tophat --data {w}/set -o {file}/out", NOT_A_FOLDER),
    ("evaluate tophat --data {w}/set -o {o} --show-dir {file}/show", NOT_A_FOLDER),
    ("convert {w}/net.safetensors -o {file}/x.safetensors", NOT_A_FOLDER),
    ("export {w}/net.safetensors -o {file}/x.onnx", NOT_A_FOLDER),
    ("bench tophat --size 64 --runs 3 -o {file}/x.json", NOT_A_FOLDER),
]


def names_in(folder: Path, out: Path) -> dict[str, object]:
    """What the tables call ``{image}``, ``{w}`` and so on."""
    first = sorted((folder / "set" / "images").iterdir())[0].name
    return {
        "w": folder,
        "o": out,
        "file": folder / "a file",
        "image": folder / "set" / "images" / first,
        "small": sorted((folder / "mixed" / "masks").iterdir())[0],
        "cut": sorted((folder / "mixed" / "images").iterdir())[1],
        "cut_of_six": sorted((folder / "broken" / "images").iterdir())[1],
        "wrong": sorted((folder / "wrong" / "masks").iterdir())[4],
    }


@pytest.mark.parametrize(("command", "says"), NAMES + VALUES + PATHS + WEIGHTS + SIZES + UNWRITABLE)
def test_one_line_and_nothing_written(motes: Motes, folder: Path, tmp_path: Path, command: str, says: str) -> None:
    out = tmp_path / "out"
    names = names_in(folder, out)
    before = sorted(folder.rglob("*"))
    done = motes(*words(command, **names), cwd=tmp_path)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert says.format(**names) in line
    assert files(tmp_path) == {}
    assert sorted(folder.rglob("*")) == before  # no temporary file; the malicious ones would have made a folder


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("detect {w}/nothing.png -o {o}", "no such file or folder"),
        ("demo -o {o} -m topht", "did you mean 'tophat'?"),
        ("score {w}/empty {w}/set/masks -o {o}", "holds no image"),
        ("plot roc {w}/empty --gt {w}/set/masks -o {o}/x.png", "holds no image"),
        ("data info {w}/sett", "did you mean"),
        ("models repisdnt", "did you mean 'repisdnet'?"),
        ("recipes repisdnet_sirs", "did you mean 'repisdnet_sirst'?"),
        ("train", "give either a recipe or --resume RUN"),
        ("evaluate {w}/bomb.pth --data {w}/set -o {o}", "refused"),
        ("export {w}/net.safetensors -o {o}/x.onx", "expected a name that ends in .onnx"),
        ("bench tophat --size big", "is not a size"),
    ],
)
def test_the_same_from_the_console_script(
    installed: Motes, folder: Path, tmp_path: Path, command: str, says: str
) -> None:
    done = installed(*words(command, **names_in(folder, tmp_path / "out")), cwd=tmp_path)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert says in line
    assert files(tmp_path) == {}


def test_debug_shows_the_traceback(motes: Motes, tmp_path: Path) -> None:
    done = motes("models", "repisdnt", "--debug", cwd=tmp_path)
    assert done.code == 1
    assert "Traceback" in done.err and "did you mean 'repisdnet'?" in done.err


def test_the_mask_of_another_size_that_the_first_sirst_release_has(
    motes: Motes, sirst_root: Path, tmp_path: Path
) -> None:
    mask = sirst_root / "extras" / "Misc_111_pixels0.v1-release.png"
    if not mask.is_file():
        pytest.skip(f"no {mask}")
    for name in ("Misc_110", "Misc_111"):
        for part, file in (("images", f"{name}.png"), ("masks", f"{name}_pixels0.png")):
            source = sirst_root / {"images": "PNGImages", "masks": "SIRST/BinaryMask"}[part] / file
            (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / part / file).write_bytes(source.read_bytes())
    old = tmp_path / "set" / "masks" / "Misc_111_pixels0.png"
    old.write_bytes(mask.read_bytes())
    before = files(tmp_path)
    names = {"w": tmp_path, "o": tmp_path / "out"}
    for command in ("evaluate tophat --data {w}/set -o {o}", f"{TRAIN} validation.protocol=native"):
        done = motes(*words(command, **names), cwd=tmp_path)
        assert done.code == 2, done.err
        (line,) = errors(done)
        assert f"{old} is 400x592 px, its image 220x325 (`motes data check` lists all such pairs)" in line
        assert files(tmp_path) == before


def test_what_was_there_stays(motes: Motes, folder: Path, tmp_path: Path) -> None:
    """Results of a command that worked survive the same command with bad input."""
    assert motes("evaluate", "tophat", "--data", folder / "set", "-o", tmp_path / "out").code == 0
    before = files(tmp_path)
    assert before
    for words_ in (("tophat", "--data", folder / "broken"), (folder / "three.pth", "--data", folder / "set")):
        assert motes("evaluate", *words_, "-o", tmp_path / "out").code == 2
        assert files(tmp_path) == before
