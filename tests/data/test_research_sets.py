"""The research sets in their official layouts: what is read, what is noted as missing, what is refused."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from set_layouts import faces, flowers102, mask, parts, picture

from redoseg.data import open_data, open_prepared, prepare
from redoseg.data.listing import Item, Listing
from redoseg.data.matlab import read_mat
from redoseg.data.research_sets import READERS, list_set
from redoseg.errors import DataError

DRAWN = (
    "; the paper's own list is published beside its authors' code, in datasplits/: use a copy of it with redoseg "
    "prepare --splits FILE"
)


def labels(item: Item) -> list[list[int]]:
    assert item.mask is not None
    return item.read_mask(item.mask).tolist()


def read(name: str, source: Path) -> Listing:
    """What the reader lists; it must be the same again, and go to a worker process."""
    listing = READERS[name](source)
    assert READERS[name](str(source)) == listing
    assert pickle.loads(pickle.dumps(listing)) == listing
    assert all("\n" not in note for note in listing.notes)
    return listing


def refused(name: str, *sources: Path, splits: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        list_set(name, sources, splits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def splits_of(listing: Listing) -> dict[str, str]:
    return {item.name: item.split for item in listing.items}


# ------------------------------------------------------------------------------------------------- Flowers


def test_flowers102_in_its_own_layout(tmp_path: Path) -> None:
    source = flowers102(tmp_path / "flowers")
    # Stored without loss under the official name: the rule needs exact values.
    background = [(0, 9, 9), (9, 0, 9), (9, 9, 254), (0, 0, 254)]
    mask(
        source / "segmim" / "segmim_00002.jpg",
        [background, [(1, 1, 253), (1, 1, 255), (200, 90, 80), (9, 9, 0)]],
        "PNG",
    )
    listing = read("flowers102", source)
    assert listing.notes == (
        "train: 6 of the official 6,149 pictures are here",
        "val: 1 of the official 1,020 pictures are here",
        "test: 2 of the official 1,020 pictures are here",
        "8 of 9 pictures have no mask in segmim/",
    )
    assert [item.split for item in listing.items] == ["train"] * 6 + ["val"] + ["test"] * 2
    assert [item.name for item in listing.items if item.mask] == ["image_00002"]
    assert labels(listing.items[-1]) == [[0] * 4, [255] * 4]
    # Opened by its path it is recognised: segmentations are no pictures.
    data = open_data(source, 16)
    assert (len(data), data.splits) == (9, tuple(item.split for item in listing.items))


def test_flowers102_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from redoseg.data import research_sets

    source = flowers102(tmp_path, {"trnid": [1, 2], "valid": [3], "tstid": [4, 5, 6]})
    monkeypatch.setattr(
        research_sets, "FLOWERS102_SPLITS", {"train": ("tstid", 3), "val": ("valid", 1), "test": ("trnid", 2)}
    )
    assert read("flowers102", source).notes == (
        "all 6 official pictures are here",
        "6 of 6 pictures have no mask in segmim/",
    )


def test_flowers102_in_another_layout(tmp_path: Path) -> None:
    source = flowers102(tmp_path / "set")
    assert refused("flowers102", tmp_path) == (
        f"{tmp_path} has no setid.mat; expected the layout of Flowers-102; "
        "name the folder that contains jpg/, setid.mat and segmim/"
    )
    assert "x does not exist; expected the layout" in refused("flowers102", tmp_path / "x")
    assert "setid.mat is a file; expected the layout" in refused("flowers102", source / "setid.mat")
    for ids in ({"trnid": [1], "valid": [3]}, {"trnid": [1], "valid": [3], "tstid": [4, float("nan")]}):
        savemat(source / "setid.mat", ids)
        assert "has no 'tstid'; expected tstid, valid and trnid; fetch the file again" in refused("flowers102", source)
    flowers102(source, {"trnid": [91], "valid": [92], "tstid": [93]})
    assert "jpg has no picture that setid.mat lists; expected the layout" in refused("flowers102", source)
    (source / "setid.mat").write_bytes(b"MATLAB")
    text = refused("flowers102", source)
    assert text.endswith("cannot be read (no MATLAB 5 header); expected a MATLAB 5 file; fetch it again")
    (source / "setid.mat").unlink()
    (source / "setid.mat").write_bytes(b"")
    (source / "jpg").rename(source / "jpeg")
    assert "has no jpg; expected the layout" in refused("flowers102", source)


@pytest.mark.parametrize("compressed", [True, False])
def test_matlab_files(tmp_path: Path, compressed: bool) -> None:
    values = {"a": np.array([[1, 2], [3, 40000]], np.uint16), "b": np.array([[0.5, -2]]), "c": np.int8([[7]])}
    savemat(tmp_path / "x.mat", values | {"text": "left out"}, do_compression=compressed)
    found = read_mat(tmp_path / "x.mat")
    # Column by column, as MATLAB stores them.
    assert {key: array.tolist() for key, array in found.items() if key != "text"} == {
        "a": [1, 3, 2, 40000],
        "b": [0.5, -2],
        "c": [7],
    }
    data = (tmp_path / "x.mat").read_bytes()
    refused = 0
    for end in range(0, len(data), 7):
        (tmp_path / "x.mat").write_bytes(data[:end])
        try:
            short = read_mat(tmp_path / "x.mat")
        except DataError:
            refused += 1
        else:  # cut between two matrices: what is read is whole
            assert all(array.tolist() == found[key].tolist() for key, array in short.items())
    assert refused > 0.7 * len(data) / 7


def trimap(path: Path, *rows: list[tuple[int, ...]]) -> Path:
    return mask(path, list(rows))


def test_flowers17_in_the_official_layout(tmp_path: Path) -> None:
    for number in range(1, 9):
        picture(tmp_path / "jpg" / f"image_{number:04d}.jpg")
    picture(tmp_path / "jpg" / "image_0001_copy.jpg")
    (tmp_path / "jpg" / "files.txt").write_text("image_0001.jpg")
    flower, background, others = (128, 0, 0), (0, 0, 128), [(0, 0, 0), (128, 128, 0), (128, 0, 128), (255, 255, 255)]
    for number in (2, 3, 5, 8, 9):
        trimap(tmp_path / "trimaps" / f"image_{number:04d}.png", [flower, background, *others])
    (tmp_path / "trimaps" / "imlist.mat").write_bytes(b"")
    listing = read("flowers17", tmp_path)
    assert splits_of(listing) == {
        "image_0001": "train",
        "image_0002": "dev",
        "image_0003": "test",
        "image_0004": "train",
        "image_0005": "test",
        "image_0006": "train",
        "image_0007": "train",
        "image_0008": "dev",
    }
    assert listing.notes == (
        "8 of the official 1,360 pictures are here",
        "4 of the official 849 trimaps are here",
        "pictures of other names, not used: 1",
    )
    assert labels(listing.items[1]) == [[255, 0, 127, 127, 127, 127]]


def test_a_trimap_of_other_colours_is_listed_and_its_picture_kept(tmp_path: Path) -> None:
    source = tmp_path / "set"
    for number in range(1, 10):
        picture(source / "jpg" / f"image_{number:04d}.jpg")
        good = [[(128, 0, 0)] * 8] * 3 + [[(0, 0, 128)] * 8] * 3
        trimap(source / "trimaps" / f"image_{number:04d}.png", *good)
    for number, colour in ((1, (0, 0, 128)), (2, (128, 0, 0)), (3, (255, 255, 255))):
        trimap(source / "trimaps" / f"image_{number:04d}.png", *[[colour] * 8] * 6)
    report = prepare("flowers17", source, tmp_path / "out", 6)
    assert (report.pictures, report.labelled) == (9, 6)
    missing = "nothing in this mask is"
    expected = "but it needs both red and blue; put other masks into masks/; its picture is kept as not labelled"
    assert sorted(report.bad) == [
        (
            "trimaps/image_0001.png",
            f"{missing} red, the flower, {expected}",
        ),
        (
            "trimaps/image_0002.png",
            f"{missing} blue, the background, {expected}",
        ),
        (
            "trimaps/image_0003.png",
            f"{missing} red, the flower, {expected}",
        ),
    ]
    data = open_prepared(tmp_path / "out")
    assert data.labels([data.names.index("image_0004")])[0, :, 0].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("name", ["flowers17", "butterflies", "horses", "celebamask"])
def test_images_beside_masks(tmp_path: Path, name: str) -> None:
    for i in range(6):
        picture(tmp_path / "set" / "images" / f"{i}.jpg")
        mask(tmp_path / "set" / "masks" / f"{i}.png", [[0, 255]])
    listing = read(name, tmp_path / "set")
    assert list(splits_of(listing).values()) == ["dev", "test", "test"] * 2
    assert labels(listing.items[0]) == [[0, 255]]
    # A list of the user's own comes before that rule.
    (tmp_path / "set" / "splits.txt").write_text("0 val\n1 test\n")
    assert list(splits_of(read(name, tmp_path / "set")).values()) == ["val", "test"] + ["train"] * 4
    (tmp_path / "set" / "images").rename(tmp_path / "set" / "pictures")
    assert "has no images" in refused(name, tmp_path / "set")
    (tmp_path / "set" / "jpg").mkdir()
    assert "the folder that contains" in refused(name, tmp_path / "set")


# --------------------------------------------------------------------------------------------------- faces


def test_lfw_with_part_labels(tmp_path: Path) -> None:
    faces(tmp_path / "lfw_funneled")
    faces(tmp_path / "lfw-deepfunneled", 3)
    picture(tmp_path / "lfw_funneled" / ".hidden" / ".hidden_0001.jpg")
    picture(tmp_path / "lfw_funneled" / "Some_One00" / "another.jpg")
    parts(tmp_path, range(5, 18))
    listing = read("lfw", tmp_path)
    assert len(listing.items) == 20
    assert listing.items[0] == Item(
        "Some_One00_0001", tmp_path / "lfw_funneled/Some_One00/Some_One00_0001.jpg", split="train"
    )
    assert labels(listing.items[5]) == [[255, 255, 0], [255, 0, 0]]
    labelled = {item.name for item in listing.items if item.mask}
    assert len(labelled) == 13
    split = splits_of(listing)
    # 20 of 13,233 pictures: 1,327 and 1,600 shrink alike.
    assert Counter(split.values()) == {"train": 16, "val": 2, "test": 2}
    assert {name for name in split if split[name] != "train"} <= labelled
    assert listing.notes == (
        "20 of the official 13,233 pictures are here",
        "13 of the official 2,927 part labels are here",
        "pictures of other names, not used: 1",
        f"splits drawn here (fixed): 16 train, 2 val, 2 test{DRAWN}",
    )
    # The folder of pictures itself, with the labels beside it, is the same set.
    inner = read("lfw", tmp_path / "lfw_funneled")
    assert splits_of(inner) == split
    assert {item.name for item in inner.items if item.mask} == labelled


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("lfw-deepfunneled", "deep-funneled"), ("lfw_deepfunneled", "deep-funneled"), ("lfw", "not aligned")],
)
def test_part_labels_do_not_fit_other_faces(tmp_path: Path, folder: str, kind: str) -> None:
    faces(tmp_path / folder)
    assert "no picture has a mask: parts_lfw_funneled_gt_images/ is not here" in read("lfw", tmp_path).notes
    parts(tmp_path, range(20))
    for source in (tmp_path, tmp_path / folder):
        listing = read("lfw", source)
        assert [item.mask for item in listing.items] == [None] * 20
        assert listing.notes[1] == (
            f"part labels are not used: they belong to the funneled pictures, those in {folder}/ are {kind}"
        )
        # Nothing is labelled, so that splits are drawn from all.
        assert Counter(splits_of(listing).values()) == {"train": 16, "val": 2, "test": 2}


def test_lfw_in_another_layout(tmp_path: Path) -> None:
    text = (
        f"{tmp_path} has no NAME/NAME_0001.jpg; expected the layout of LFW; name the folder that contains lfw_funneled/"
    )
    assert refused("lfw", tmp_path).startswith(text)
    picture(tmp_path / "Some_One" / "Some_Two_0001.jpg")
    picture(tmp_path / "deeper" / "Some_One" / "Some_One_0001.jpg")
    os.symlink(tmp_path, tmp_path / "loop")
    assert refused("lfw", tmp_path).startswith(text)
    assert "does not exist; expected the layout of LFW" in refused("lfw", tmp_path / "x")


# --------------------------------------------------------------------------------------------------- birds


def birds(source: Path, count: int = 12, masks: str = "segmentations", of: str = "CUB_200_2011") -> Path:
    names = [f"{i % 3 + 1:03}.Some_Bird/Some_Bird_{i:04}_{7 * i}" for i in range(count)]
    for name in names:
        picture(source / of / "images" / f"{name}.jpg")
        mask(source / masks / f"{name}.png", [[0, 51, 127], [128, 204, 255]])
    lines = [f"{i + 1} {name}.jpg\n" for i, name in enumerate(names)]
    (source / of / "images.txt").write_text("".join(lines))
    return source


def test_cub_in_its_own_layout(tmp_path: Path) -> None:
    listing = read("cub200-2011", birds(tmp_path / "beside"))
    assert listing.items[0].name == "001.Some_Bird/Some_Bird_0000_0"
    # An average of annotators: the object is what more than half drew, and nothing is left open.
    assert labels(listing.items[0]) == [[0, 0, 0], [255, 255, 255]]
    assert listing.notes == (
        "12 of the official 11,788 pictures are here",
        f"splits drawn here (fixed): 10 train, 1 val, 1 test{DRAWN}",
    )
    within = birds(tmp_path / "within", masks="CUB_200_2011/segmentations")
    for source in (within, within / "CUB_200_2011", tmp_path / "beside" / "CUB_200_2011"):
        again = read("cub200-2011", source)
        assert splits_of(again) == splits_of(listing)
        assert all(item.mask for item in again.items)


def test_cub_with_a_list_of_numbers_as_the_paper_s_authors_write_them(tmp_path: Path) -> None:
    source = birds(tmp_path / "birds")
    (tmp_path / "list.txt").write_text("".join(f"{i} {(i > 6) + (i > 9)}\n" for i in range(1, 13)))
    _, _, listing = list_set("cub200-2011", [source], tmp_path / "list.txt")
    listed = [line.split() for line in (source / "CUB_200_2011" / "images.txt").read_text().splitlines()]
    split = {name.removesuffix(".jpg"): ["train", "val", "test"][(int(i) > 6) + (int(i) > 9)] for i, name in listed}
    assert splits_of(listing) == split
    assert listing.notes[-1] == f"splits from {tmp_path / 'list.txt'}: 6 train, 3 val, 3 test"


def test_lfw_with_a_list_of_file_names(tmp_path: Path) -> None:
    source = faces(tmp_path / "lfw_funneled", people=3).parent
    (tmp_path / "list.txt").write_text("Some_One00_0001 0\nSome_One01_0001.jpg 1\nSome_One02_0001.jpg 2\n")
    _, _, listing = list_set("lfw", [source], tmp_path / "list.txt")
    assert [item.split for item in sorted(listing.items, key=lambda item: item.name)] == ["train", "val", "test"]


def test_cub_in_part(tmp_path: Path) -> None:
    source = birds(tmp_path)
    (source / "segmentations" / "001.Some_Bird" / "Some_Bird_0000_0.png").unlink()
    for path in (source / "CUB_200_2011" / "images" / "002.Some_Bird").iterdir():
        path.unlink()
    listing = read("cub200-2011", source)
    assert len(listing.items) == 8
    assert listing.notes[:2] == (
        "8 of the official 11,788 pictures are here",
        "1 of 8 pictures have no mask in segmentations/",
    )
    assert listing.bad == ()


def test_cub_in_another_layout(tmp_path: Path) -> None:
    expected = "expected the layout of CUB-200-2011; name the folder that contains CUB_200_2011/"
    assert refused("cub200-2011", tmp_path).startswith(f"{tmp_path} has no images.txt; {expected}")
    root = birds(tmp_path) / "CUB_200_2011"
    good = (root / "images.txt").read_text()
    for line in ("one.jpg", "1 ../../secret.jpg", "1 ../secret.jpg", "1 /etc/passwd.jpg", "1 001.Bird/x.png"):
        (root / "images.txt").write_text(f"{good}\n{line}\n")
        assert f"images.txt, line 14: the line is {line!r}; expected '1 CLASS/NAME.jpg'" in refused(
            "cub200-2011", tmp_path
        )
    (root / "images.txt").write_bytes(b"\n1 a\xff")
    assert "images.txt, line 2 is not UTF-8; expected a text file" in refused("cub200-2011", tmp_path)
    (root / "images.txt").write_text("1 001.Bird/x.jpg")
    assert f"images has no picture that images.txt lists; {expected}" in refused("cub200-2011", tmp_path)
    (root / "images").rename(root / "pictures")
    assert refused("cub200-2011", tmp_path).startswith(f"{root} has no images; {expected}")


# ----------------------------------------------------------------------------------------- folders and mixes


def photos(folder: Path, *names: str) -> Path:
    for name in names or tuple(f"{i}.jpg" for i in range(8)):
        picture(folder / name)
    return folder


def test_a_folder_with_splits_of_its_own(tmp_path: Path) -> None:
    source = photos(tmp_path / "mine")
    assert set(splits_of(read("folder", source)).values()) == {""}
    (source / "splits.csv").write_text("name,split\n0.jpg,val\n1.jpg,test\n99.jpg,test\n")
    listing = read("folder", source)
    assert Counter(splits_of(listing).values()) == {"train": 6, "val": 1, "test": 1}
    assert listing.notes == (
        f"splits from {source / 'splits.csv'}: 6 train, 1 val, 1 test; "
        "pictures it does not name: 6, in train; names without a picture: 1",
    )
    prepare("folder", source, tmp_path / "out", 8)
    assert open_prepared(tmp_path / "out").subset("val").names == ("0",)
    (source / "splits.txt").write_text("0 val\n")
    assert "has both splits.csv and splits.txt; remove one of them" in refused("folder", source)
    (source / "splits.csv").unlink()
    assert Counter(splits_of(read("folder", source)).values()) == {"train": 7, "val": 1}
    (source / "splits.txt").write_text("0 validation\n")
    assert "splits.txt, line 1: the split is 'validation'; expected one of train, val, dev, test" in refused(
        "folder", source
    )


def test_names_differ_whatever_the_files_are_called(tmp_path: Path) -> None:
    photos(tmp_path, "a.jpg", "a.png", "a.jpg.png", "b.jpg", "c/b.jpg", "b.jpg.gif")
    names = [item.name for item in read("folder", tmp_path).items]
    assert len(set(names)) == len(names) == 6
    assert {"a.jpg", "a.png", "c/b"} <= set(names)


def test_a_mix_of_sets(tmp_path: Path) -> None:
    first = flowers102(tmp_path / "flowers")
    second = faces(tmp_path / "deep" / "lfw_funneled")
    os.symlink(tmp_path / "nowhere", second / "Some_One00" / "gone.jpg")
    display, root, listing = list_set("flowers102+lfw", [first, second])
    assert (display, root) == ("flowers102+lfw", tmp_path)
    alone = [list_set("flowers102", [first])[2], list_set("lfw", [second])[2]]
    expected = [f"flowers102/{item.name}" for item in alone[0].items] + [f"lfw/{item.name}" for item in alone[1].items]
    assert [item.name for item in listing.items] == expected
    assert [item.split for item in listing.items] == [item.split for one in alone for item in one.items]
    assert [item.image for item in listing.items] == [item.image for one in alone for item in one.items]
    assert listing.notes == (
        *(f"flowers102: {note}" for note in alone[0].notes),
        *(f"lfw: {note}" for note in alone[1].notes),
    )
    assert [path for path, _ in listing.bad] == ["deep/lfw_funneled/Some_One00/gone.jpg"]
    assert [path for path, _ in alone[1].bad] == ["Some_One00/gone.jpg"]


def test_a_mix_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [photos(tmp_path / "a" / "mine", "1.jpg"), photos(tmp_path / "b" / "mine", "1.jpg")]
    sources.append(photos(tmp_path / "mine-1", "1.jpg"))
    for mixed in (sources, [path.relative_to(tmp_path) for path in sources]):
        monkeypatch.chdir(tmp_path)
        display, root, listing = list_set("folder+folder+folder", mixed)
        assert (display, root) == ("mine+mine+mine-1", tmp_path)
        assert [item.name for item in listing.items] == ["mine-2/1", "mine-3/1", "mine-1/1"]
        assert all(item.image.is_relative_to(root) for item in listing.items)
    names = [item.name for item in list_set("folder+folder", [sources[0]] * 2)[2].items]
    assert names == ["mine-1/1", "mine-2/1"]
    flowers = photos(tmp_path / "lfw", "1.jpg")
    names = [item.name for item in list_set("folder+lfw", [flowers, faces(tmp_path / "faces", 1)])[2].items]
    assert names == ["lfw-1/1", "lfw-2/Some_One00_0001"]


def test_a_mix_says_what_is_in_no_split(tmp_path: Path) -> None:
    mine, people = photos(tmp_path / "mine"), faces(tmp_path / "lfw")
    assert list_set("lfw+folder", [people, mine])[2].notes[-1] == (
        "pictures in no split: 8; give theirs with redoseg prepare --splits"
    )
    assert list_set("folder+folder", [mine, mine])[2].notes == ()


def test_a_single_set_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photos(tmp_path / "holiday")
    assert list_set("folder", [source])[:2] == ("holiday", source)
    monkeypatch.chdir(source)
    assert list_set("folder", [Path(".")])[:2] == ("holiday", Path("."))
    assert list_set("lfw", [faces(tmp_path / "x")])[:2] == ("lfw", tmp_path / "x")


def test_a_list_of_splits_takes_the_place_of_all_others(tmp_path: Path) -> None:
    first, second = flowers102(tmp_path / "flowers"), faces(tmp_path / "lfw_funneled")
    names = tmp_path / "names.txt"
    names.write_text("image_00001.jpg dev\nSome_One03/Some_One03_0001.jpg val\nlfw/Some_One04_0001 test\n")
    listing = list_set("flowers102+lfw", [first, second], names)[2]
    split = splits_of(listing)
    assert {name: s for name, s in split.items() if s != "train"} == {
        "flowers102/image_00001": "dev",
        "lfw/Some_One03_0001": "val",
        "lfw/Some_One04_0001": "test",
    }
    assert listing.notes[-1].startswith(f"splits from {names}: 26 train, 1 val, 1 dev, 1 test; pictures it does not")
    assert not any("drawn" in note for note in listing.notes)
    # Also for one set, drawn or with splits of its own.
    assert Counter(splits_of(list_set("flowers102", [first], names)[2]).values()) == {"train": 8, "dev": 1}
    alone = list_set("lfw", [second], names)[2]
    assert Counter(splits_of(alone).values()) == {"train": 19, "val": 1}
    assert not any("drawn" in note for note in alone.notes)


def test_what_a_set_is_refused_for(tmp_path: Path) -> None:
    known = "flowers102, flowers17, lfw, cub200-2011, butterflies, horses, celebamask, folder"
    assert refused("cifar", tmp_path) == f"set 'cifar' is not known; expected one of {known}"
    assert refused("lfw+", tmp_path, tmp_path) == f"set '' is not known; expected one of {known}"
    advice = "give one for each part, in its order"
    assert refused("flowers102+lfw", tmp_path) == f"1 source folders are given, but flowers102+lfw needs 2; {advice}"
    assert refused("folder", tmp_path, tmp_path) == f"2 source folders are given, but folder needs 1; {advice}"
    assert refused("folder") == f"0 source folders are given, but folder needs 1; {advice}"
    photos(tmp_path / "mine")
    assert "gone.txt: cannot be read (No such file" in refused("folder", tmp_path, splits=tmp_path / "gone.txt")


def test_a_research_set_is_recognised_by_its_layout(tmp_path: Path) -> None:
    """Opened by its path, too, its masks are no pictures."""
    seventeen = tmp_path / "seventeen"
    for number in range(1, 10):
        picture(seventeen / "jpg" / f"image_{number:04d}.jpg")
        trimap(seventeen / "trimaps" / f"image_{number:04d}.png", [(128, 0, 0)] * 8, *[[(0, 0, 128)] * 8] * 5)
    assert len(open_data(seventeen, 4)) == 9
    assert open_data(seventeen, 4).labelled.all()
    assert len(open_data(birds(tmp_path / "birds"), 4)) == 12
    faces(tmp_path / "faces" / "lfw_funneled")
    parts(tmp_path / "faces", range(20))
    assert len(open_data(tmp_path / "faces", 4)) == 20
    assert len(open_data(faces(tmp_path / "any"), 4)) == 20
