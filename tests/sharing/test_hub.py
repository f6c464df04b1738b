"""Models on the hub, against a small server here that speaks the endpoints that huggingface_hub uses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import TOKEN, Hub, at, serving_hub

from redoseg import RedrawModel, Segmenter, push_to_hub
from redoseg.cli.verbs import VERBS
from redoseg.errors import MissingError, ModelError, RedosegError
from redoseg.inference import hub as sharing_hub
from redoseg.inference.model_file import find_model
from redoseg.sharing import push
from redoseg.sharing.model_folder import export_run

pytest.importorskip("huggingface_hub")

FILES = ["README.md", "config.json", "mask.onnx", "model.safetensors", "redraw.onnx"]
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving_hub(monkeypatch, tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def folder(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "birds"
    export_run(trained.folder, place)
    return place


def content(place: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in place.iterdir()}


# ----------------------------------------------------------------------------------------------- fetching


def test_only_the_needed_files_are_fetched(hub: Hub, folder: Path) -> None:
    hub.commits["me/birds"] = [content(folder)]
    mask = Segmenter.from_pretrained("me/birds").soft(PHOTO)
    assert (mask == Segmenter(folder).soft(PHOTO)).all()
    assert hub.fetched() == {"mask.onnx", "config.json"}
    drawings = RedrawModel.from_pretrained("me/birds").redraw(PHOTO, 2)
    assert [p.tobytes() for p in drawings] == [p.tobytes() for p in RedrawModel(folder).redraw(PHOTO, 2)]
    assert hub.fetched() == {"mask.onnx", "config.json", "redraw.onnx"}


def test_names_of_models_take_the_hubs_too(hub: Hub, folder: Path) -> None:
    hub.commits["me/birds"] = [content(folder)]
    assert find_model("hf://me/birds").content == (folder / "mask.onnx").read_bytes()
    assert Segmenter("hf://me/birds").name == "birds"
    assert RedrawModel("hf://me/birds").latent == 4


def test_a_revision(hub: Hub, folder: Path) -> None:
    old, new = content(folder), content(folder) | {"mask.onnx": find_model("flowers").content}
    hub.commits["me/birds"] = [old, new]
    assert Segmenter.from_pretrained("me/birds").name == Segmenter("flowers").name
    sha = hub.sha("me/birds", 0)
    for segmenter in (Segmenter.from_pretrained("me/birds", revision=sha), Segmenter(f"hf://me/birds@{sha}")):
        assert segmenter.name == "birds"
    with pytest.raises(ModelError, match=r"me/birds on the hub cannot be fetched \(no such revision\): name a branch"):
        Segmenter.from_pretrained("me/birds", revision="nightly")


def test_a_private_model_needs_a_token(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.commits["me/birds"] = [content(folder)]
    hub.private.add("me/birds")
    said = r"me/birds on the hub cannot be fetched \(no such model, or a private one\): check the name, or say `hf auth"
    with pytest.raises(ModelError, match=said):
        Segmenter.from_pretrained("me/birds")
    with pytest.raises(ModelError, match=said):
        Segmenter.from_pretrained("me/birds", token="hf_wrong")
    segmenter = Segmenter.from_pretrained("me/birds", token=TOKEN, cache_dir=tmp_path / "mine", threads=1)
    assert segmenter.threads == 1
    assert (tmp_path / "mine" / "models--me--birds").is_dir()
    assert not list((tmp_path / "hub-cache").rglob("mask.onnx"))


def test_whatever_is_here_comes_first(hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Segmenter.from_pretrained(folder).name == "birds"
    assert Segmenter.from_pretrained(str(folder)).name == "birds"
    assert RedrawModel.from_pretrained(folder).latent == 4
    assert Segmenter.from_pretrained("flowers").size == 128
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "me" / "birds")
    assert Segmenter.from_pretrained("me/birds").name == "birds"
    assert hub.asked == []
    for name in ("a/b/c", "../birds", "./birds", "fish"):  # places, and no names on the hub
        with pytest.raises(ModelError, match=re.escape(f"{Path(name)} does not exist")):
            Segmenter.from_pretrained(name)
    assert hub.asked == []


def test_what_is_in_the_cache_needs_no_network(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commits["me/birds"] = [content(folder)]
    Segmenter.from_pretrained("me/birds")
    nobody = "http://127.0.0.1:9"
    for offline in (False, True):  # nobody answers; nobody is asked
        at(nobody, tmp_path, monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        assert Segmenter.from_pretrained("me/birds").name == "birds"
        said = (
            r"{} on the hub cannot be fetched \(no answer, and not in the cache\): check the network, or HF_HUB_OFFLINE"
        )
        for name in ("me/birds", "me/fish"):  # redraw.onnx was never fetched
            with pytest.raises(ModelError, match=said.format(name)) as error:
                RedrawModel.from_pretrained(name)
            assert "\n" not in str(error.value)


def test_a_model_of_others(hub: Hub, folder: Path) -> None:
    hub.commits["me/llm"] = [{"config.json": b"{}", "pytorch_model.bin": b"no"}]
    with pytest.raises(
        ModelError, match=r"me/llm on the hub has no mask.onnx; expected a model of redoseg; choose another"
    ):
        Segmenter.from_pretrained("me/llm")
    hub.commits["me/odd"] = [{"weights.bin": b"no"}]
    with pytest.raises(ModelError, match=r"me/odd on the hub has no config.json; expected a model of redoseg"):
        Segmenter.from_pretrained("me/odd")
    older = content(folder)
    del older["redraw.onnx"]
    hub.commits["me/older"] = [older]
    assert Segmenter.from_pretrained("me/older").size == 32
    with pytest.raises(ModelError, match=r"me/older on the hub has no redraw.onnx; expected a model of redoseg"):
        RedrawModel.from_pretrained("me/older")
    hub.commits["me/junk"] = [{"config.json": b"{}", "mask.onnx": b"junk"}]
    with pytest.raises(ModelError, match=r"mask.onnx is not an ONNX model"):
        Segmenter("hf://me/junk")
    for name in ("hf://birds", "hf://a/b/c", "hf://a/b c", "hf://../x/y"):
        with pytest.raises(ModelError, match="is not a model's name on the hub; expected user/name; correct it"):
            Segmenter(name)


# ------------------------------------------------------------------------------------------------ pushing


def test_pushed_and_fetched_again(hub: Hub, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("not for others")
    address = push_to_hub(tmp_path / "model", "me/birds", token=TOKEN)
    assert address == f"{hub.address}/me/birds"
    assert len(hub.commits["me/birds"]) == 2  # the empty one, and all files at once
    assert sorted(hub.commits["me/birds"][-1]) == FILES
    assert hub.commits["me/birds"][-1] == content(folder)
    assert hub.private == set()
    assert (Segmenter.from_pretrained("me/birds").soft(PHOTO) == Segmenter(folder).soft(PHOTO)).all()
    # again, changed
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\nBirds.\n")
    push_to_hub(tmp_path / "model", "me/birds", token=TOKEN)
    assert hub.commits["me/birds"][-1]["README.md"].endswith(b"Birds.\n")


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
def test_large_files_go_another_way(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real hub keeps models apart from commits. Its newest way, Xet, is a protocol of its own, not tested here."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.large = {}
    push_to_hub(folder, "me/birds", token=TOKEN)
    assert len(hub.large) == 3
    assert hub.commits["me/birds"][-1] == content(folder)
    assert Segmenter.from_pretrained("me/birds").name == "birds"


def test_pushed_with_the_token_of_the_environment(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RedosegError, match="there is no token for the hub; run `hf auth login` with one that may write"
    ):
        push_to_hub(folder, "me/birds")
    assert hub.asked == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push_to_hub(folder, "me/birds", private=True)
    assert hub.private == {"me/birds"}


def test_a_private_push_never_goes_to_a_public_model(hub: Hub, folder: Path) -> None:
    hub.commits["me/birds"] = [{}]
    with pytest.raises(
        RedosegError, match="me/birds on the hub is public already, so it cannot be private; choose another"
    ):
        push_to_hub(folder, "me/birds", private=True, token=TOKEN)
    assert hub.commits["me/birds"] == [{}]


def test_pushes_that_are_refused(hub: Hub, folder: Path, trained: Any, tmp_path: Path) -> None:
    said = r"me/birds on the hub cannot be pushed \(refused, status 401\): give a token that may, with `hf auth login`"
    with pytest.raises(ModelError, match=said) as error:
        push_to_hub(folder, "me/birds", token="hf_may_read")
    assert "\n" not in str(error.value)
    assert "hf_may_read" not in str(error.value)
    with pytest.raises(ModelError, match=r"has no README.md; expected a model folder; make one with `redoseg export`"):
        push_to_hub(trained.folder, "me/birds", token=TOKEN)
    with pytest.raises(ModelError, match=r"nothing is not a folder; expected a model folder"):
        push_to_hub(tmp_path / "nothing", "me/birds", token=TOKEN)
    with pytest.raises(RedosegError, match=r"'birds' is not a model's name on the hub; expected user/name"):
        push_to_hub(folder, "birds", token=TOKEN)
    assert hub.commits == {}


def test_pushing_without_a_network(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at("http://127.0.0.1:9", tmp_path, monkeypatch)
    with pytest.raises(ModelError, match=r"me/birds on the hub cannot be pushed \(no answer"):
        push_to_hub(folder, "me/birds", token=TOKEN)


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for work in (
        lambda: Segmenter.from_pretrained("me/birds"),
        lambda: Segmenter("hf://me/birds"),
        lambda: push_to_hub(folder, "me/birds", token=TOKEN),
    ):
        with pytest.raises(MissingError, match=r"is not installed; run: pip install .redoseg\[hub\]"):
            work()
    assert Segmenter.from_pretrained(folder).name == "birds"  # what is here needs it not


# --------------------------------------------------------------------------------------- the command line


@pytest.mark.slow
def test_push_and_segment_from_the_shell(hub: Hub, folder: Path, photos: Path, tmp_path: Path) -> None:
    """In processes of their own, where the address comes from the environment."""
    import os

    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
    }

    def shell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "redoseg", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)

    said = shell("push", folder, "me/birds", "--private")
    assert (said.returncode, said.stdout, said.stderr) == (0, f"pushed: {hub.address}/me/birds\n", "")
    assert hub.private == {"me/birds"}
    said = shell("segment", "hf://me/birds", photos / "images" / "00.png", "-o", "out")
    assert (said.returncode, said.stderr) == (0, "")
    assert (tmp_path / "out" / "00.png").is_file()
    said = shell("redraw", "hf://me/birds", photos / "images" / "00.png", "-o", "out", "-n", "2")
    assert (said.returncode, said.stderr) == (0, "")
    said = shell("push", folder, "birds")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "redoseg: 'birds' is not a model's name on the hub; expected user/name; correct it\n"


def test_the_files_of_a_model_folder_are_all_known(folder: Path) -> None:
    assert sorted(push.MODEL_FOLDER_FILES) == sorted(content(folder)) == FILES
    assert "push" in VERBS


def test_a_hub_address_keeps_revision_token_and_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[object, ...]] = []

    def fetch(repo: str, files: object, *rest: object) -> Path:
        asked.append((repo, *rest))
        return tmp_path

    monkeypatch.setattr(sharing_hub, "fetch", fetch)
    for model, revision in (("hf://user/name", "v1"), ("user/name", "v1"), ("hf://user/name@v1", None)):
        sharing_hub.local_or_fetched(model, ("mask.onnx",), revision, "T", "/c")
    assert asked == [("user/name", "v1", "T", "/c")] * 3
