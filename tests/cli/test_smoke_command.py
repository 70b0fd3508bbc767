"""`motes smoke` as installed: the whole chain, where it stops, what it says of networks that are not exported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from command_line import Motes, errors, files, words

from motes.benchmark import smoke as chain
from motes.benchmark.smoke import Chain, Settings, Step, awkward, near
from motes.cards import InputSpec, list_models, model_card
from motes.models.repisdnet import RepISDNet

SMALL = {
    "acm": Settings(steps=40, seeds=1, size=32),
    "alcnet": Settings(steps=25, seeds=1),
    "rdian": Settings(steps=80, seeds=1, size=32),
    "repisdnet": Settings(steps=25, seeds=1, size=32),
}
"""The networks that CI takes the whole way, and what is enough for them."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_from_fresh_weights_to_targets(tmp_path: Path, name: str) -> None:
    said: list[Step] = []
    done = chain.smoke(name, None, tmp_path, SMALL[name], said.append)
    assert said == done
    assert [step.name for step in done] == list(chain.STEPS), str(done[-1])
    allowed = {"ok"} if name == "repisdnet" else {"ok", "skipped"}
    assert {step.status for step in done} <= allowed, str(done[-1])
    assert [step.name for step in done if step.status == "skipped"] in ([], ["merge"])


def test_class_maps_from_a_deployment_folder(tmp_path: Path) -> None:
    said: list[Step] = []
    settings = Settings(steps=30, seeds=1, size=32, backbone="test_resnet")
    done = chain.smoke("semantic_fpn", None, tmp_path, settings, said.append)
    assert said == done
    assert [step.name for step in done] == list(chain.STEPS), str(done[-1])
    assert [step.status for step in done] == ["ok", "ok", "ok", "skipped", "ok", "ok"]
    assert done[0].text.endswith("backbone test_resnet")
    expected = {"deploy/model.onnx", "deploy/model.yml", "deploy/model.parity.json", "evaluation/metrics.json"}
    assert expected <= files(tmp_path).keys()


def test_the_command(motes: Motes, tmp_path: Path) -> None:
    small = ("--steps", 25, "--size", 32, "--seeds", 2, "--threads", 1)
    done = motes("smoke", "repisdnet", *small, "-o", tmp_path / "out")
    assert done.code == 0, done.out + done.err
    lines = done.out.splitlines()
    assert [line.split()[:3] for line in lines] == [["repisdnet", step, "ok"] for step in chain.STEPS]
    assert lines[0].count("->") == 2  # a loss for each seed
    out = tmp_path / "out" / "repisdnet"
    assert (out / "status.log").read_text(encoding="utf-8") == done.out
    assert {"repisdnet.onnx", "run/best.safetensors", "evaluation/metrics.json"} <= files(out).keys()


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ("--lr 1e-9", "the loss did not fall to 0.7 of its start"),
        ("--lr 1e30", "the loss became"),
    ],
)
def test_stops_at_the_first_failure(motes: Motes, tmp_path: Path, options: str, last: str) -> None:
    done = motes("smoke", "repisdnet", "--size", 16, "--steps", 3, "--seeds", 1, *options.split(), cwd=tmp_path)
    assert done.code == 1
    assert errors(done) == []
    (line,) = done.out.splitlines()
    assert line.split()[:3] == ["repisdnet", "train", "failed"]
    assert last in line
    assert files(tmp_path) == {}


BAD = [
    ("smoke", "give either a network or --all"),
    ("smoke repisdnet --all", "give either a network or --all"),
    ("smoke repisdnt", "unknown model 'repisdnt' (did you mean 'repisdnet'?)"),
    ("smoke repisdnet --variant deploi", "unknown variant of repisdnet 'deploi' (did you mean 'deploy'?)"),
    ("smoke --all --variant deploy", "--variant deploy is of one network"),
    ("smoke repisdnet factseq", "unknown model 'factseq' (did you mean 'factseg'?)"),
    ("smoke factseg --backbone resnet5", "unknown backbone 'resnet5'"),
    ("smoke repisdnet --steps 2", "Input should be greater than or equal to 3"),
    ("smoke repisdnet --lr 0", "--lr is 0, expected a rate above 0"),
    ("smoke repisdnet --size 32 -o {w}", "is not empty"),
    ("smoke repisdnet --size 32 --steps 3 -o {file}", "a file"),
]


@pytest.mark.parametrize(("command", "says"), BAD, ids=[c for c, _ in BAD])
def test_bad_input(motes: Motes, folder: Path, tmp_path: Path, command: str, says: str) -> None:
    (tmp_path / "repisdnet").mkdir()
    (tmp_path / "repisdnet" / "old").touch()
    done = motes(*words(command, w=tmp_path, file=folder / "a file"), cwd=tmp_path)
    assert done.code == 2, done.out
    (line,) = errors(done)
    assert says in line
    assert files(tmp_path).keys() == {"repisdnet/old"}


def test_bad_input_from_the_console_script(installed: Motes, tmp_path: Path) -> None:
    done = installed("smoke", "repisdnt", cwd=tmp_path)
    assert done.code == 2
    assert errors(done) == ["motes: error: unknown model 'repisdnt' (did you mean 'repisdnet'?)"]


def test_help_has_examples(motes: Motes) -> None:
    assert "motes smoke --all --seeds 1" in motes("smoke", "--help").out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A chain that has been trained for so long that targets are found, and no more."""
    made = Chain("repisdnet", None, tmp_path_factory.mktemp("chain"), Settings(steps=25, seeds=1, size=32))
    made.train()
    return made


def test_every_step_notices_what_is_wrong(trained: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(chain, "FALL", 1e-3)
        with pytest.raises(Exception, match="did not fall"):
            Chain("repisdnet", None, trained.folder / "again", Settings(steps=3, seeds=1, size=16)).train()
    with monkeypatch.context() as patch:
        patch.setattr(chain, "evaluate", lambda *_, **__: None)
        with pytest.raises(Exception, match=r"metrics\.json was not written"):
            trained.evaluate()

    net, card = trained.trained
    trained.export()
    infer = chain.in_the_field

    def spoilt(key: str, spoil) -> None:
        def other(*args):
            found = infer(*args)
            return {**found, key: spoil(found[key])}

        monkeypatch.setattr(chain, "in_the_field", other)

    assert "batch of 2" in trained.infer()
    largest = np.abs(infer(trained.onnx, np.zeros((2, 31, 29, 1), np.uint8), trained.folder)["logits"]).max()
    spoilt("logits", lambda v: v + 1e-3 * max(largest, 10))
    with pytest.raises(Exception, match="logits differ"):
        trained.infer()
    spoilt("logits", lambda v: v[..., :-1])
    with pytest.raises(Exception, match="the file's logits are"):
        trained.infer()
    spoilt("probability", lambda v: 1 - v)
    with pytest.raises(Exception, match="with what else is in its batch"):
        trained.infer()
    monkeypatch.setattr(
        chain, "in_the_field", lambda *a: {**infer(*a), **{f"centroids{i}": np.zeros((0, 2)) for i in (0, 1)}}
    )
    with pytest.raises(Exception, match=r"none of them where one is \(after 25 steps running statistics"):
        trained.infer()
    monkeypatch.setattr(trained, "settings", replace(trained.settings, steps=chain.SETTLED))
    with pytest.raises(Exception, match=r"none of them where one is \(more --steps may help"):
        trained.infer()
    assert (net, card) == trained.trained


def test_resuming_from_other_weights_is_noticed(trained: Chain) -> None:
    kept = trained.first / "last.ckpt"
    state = torch.load(kept, weights_only=True)
    name = next(iter(state["net"]))
    state["net"][name] += 1e-6
    whole = kept.read_bytes()
    torch.save(state, kept)
    with pytest.raises(Exception, match="differ from the uninterrupted run"):
        trained.resume()
    chain.shutil.rmtree(trained.folder / "resumed")
    kept.write_bytes(whole)
    assert "bit-equal" in trained.resume()


@pytest.mark.parametrize(
    ("reason", "status"), [("ties of its top-k are broken otherwise", "not exported"), (None, "failed")]
)
def test_only_a_declared_network_may_not_export(
    trained: Chain, monkeypatch: pytest.MonkeyPatch, reason: str | None, status: str
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operator not supported")

    monkeypatch.setattr(RepISDNet, "not_exported", reason, raising=False)
    monkeypatch.setattr(chain, "export_onnx", refuse)
    monkeypatch.setattr(chain, "Chain", lambda *_: trained)
    monkeypatch.setattr(chain, "STEPS", ("export", "infer"))
    trained.onnx.unlink(missing_ok=True)
    said: list[Step] = []
    done = chain.smoke("repisdnet", None, trained.folder, say=said.append)
    assert said == done
    assert done[0].status == status
    if reason:
        assert reason in str(done[0])
        assert [s.status for s in done] == ["not exported", "skipped"]
    else:
        assert len(done) == 1
        assert "RuntimeError: operator not supported" in done[0].text
        assert "operator not supported" in (trained.folder / "traceback.txt").read_text(encoding="utf-8")


def test_a_declared_network_is_refused_by_export_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from motes.errors import MotesError
    from motes.export import export_onnx

    monkeypatch.setattr(RepISDNet, "not_exported", "its ties", raising=False)
    with pytest.raises(MotesError, match="repisdnet is not exported: its ties"):
        export_onnx(RepISDNet(), model_card("repisdnet"), tmp_path / "x.onnx")
    assert files(tmp_path) == {}


@pytest.mark.parametrize("broken", [True, False])
def test_all_goes_on_and_ends_in_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    from motes.cli.smoke import smoke

    def run(name: str, variant: str | None, folder: Path, settings: Settings, say) -> list[Step]:
        assert folder.is_dir()
        step = Step(name, "train", "failed" if broken and name == list_models("irstd")[0] else "ok", "text", 1.5)
        say(step)
        return [step]

    monkeypatch.setattr(chain, "smoke", run)
    if broken:
        with pytest.raises(typer.Exit) as stopped:
            smoke(every=True)
        assert stopped.value.exit_code == 1
    else:
        smoke(every=True)
    log, _, table = capsys.readouterr().out.partition("\n\n")
    names = [name for task in ("irstd", "aerial", "detection") for name in list_models(task)]
    assert [line.split()[0] for line in log.splitlines()] == names
    rows = [line.split() for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == ["failed" if broken else "ok"] + ["ok"] * (len(names) - 1)


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32, 3])
def test_awkward_sides(stride: int) -> None:
    spec = InputSpec(stride=stride, min_size=4)
    for side in (32, 64, 80, 256):
        found = awkward(side, spec)
        assert 0 < found < side
        assert found % 2 == 1
        assert stride == 1 or found % stride


def test_near() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5, 10] = True
    assert near(np.array([[10.0, 5.0], [12.0, 6.0], [5.0, 10.0]]), mask) == 2  # (x, y)
    assert near(np.zeros((0, 2)), mask) == 0
    assert near(np.array([[1.0, 1.0]]), np.zeros((20, 20), bool)) == 0
