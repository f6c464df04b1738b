"""Splits: every form of list and every mistake in one, whose picture a name is, and draws that stay the same."""

from __future__ import annotations

import csv
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from redoseg.data.listing import Item, Listing
from redoseg.data.splits import apply_splits, draw_splits, drop_splits, read_splits
from redoseg.errors import DataError


def written(folder: Path, text: str | bytes, name: str = "names.txt") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_splits(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "PATH")


# -------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "text",
    [
        "a,train\nb c,val\nd/e.jpg,test\n",
        "a\ttrain\nb c\tval\nd/e.jpg\ttest",
        "a train\nb c val\nd/e.jpg test\n",
        "a   train\n  b c , val\nd/e.jpg,\ttest  \n",
        "# comment\n\n#another, comment train\na train\n   \n\nb c val\nd/e.jpg test\n",
        "\ufeffa train\r\nb c val\r\nd/e.jpg test\r\n",
        "a train\rb c val\rd/e.jpg test",
        "name,split\na,train\nb c,val\nd/e.jpg,test\n",
        "# comment\nsplit,width,name\ntrain,1,a\n# this, and that\nval,2,b c\n\ntest,3,d/e.jpg\n",
        "\ufeffname\tsplit\r\na\ttrain\r\nb c\tval\r\nd/e.jpg\ttest\r\n",
        "a train\na train\nb c val\nd/e.jpg test\n",
        "a 0\nb c 1\nd/e.jpg 2\n",
        "a,0\nb c,1\nd/e.jpg,2\n",
    ],
)
def test_forms_of_a_list(tmp_path: Path, text: str) -> None:
    found = read_splits(written(tmp_path, text))
    assert found == {"a": "train", "b c": "val", "d/e.jpg": "test"}


def test_the_table_of_a_prepared_set(tmp_path: Path) -> None:
    names = ["a, b", 'with "quotes"', "#1", "ünï/cödé", "plain", "none", "#none"]
    splits = ["train", "val", "test", "dev", "train", "", ""]
    with open(tmp_path / "items.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "source", "split", "labelled"))
        writer.writerows((name, f"x/{name}.jpg", split, 1) for name, split in zip(names, splits, strict=True))
    assert read_splits(tmp_path / "items.csv") == dict(zip(names, splits, strict=True))


def test_a_folder_of_lists(tmp_path: Path) -> None:
    written(tmp_path, "a\nb c\n# none\n\n", "train.txt")
    written(tmp_path, "\ufeffd, e\n", "dev.txt")
    written(tmp_path, "ignored", "other.txt")
    assert read_splits(tmp_path) == {"a": "train", "b c": "train", "d, e": "dev"}
    written(tmp_path, "f\na\n", "test.txt")
    assert refused(tmp_path) == (
        "PATH/test.txt, line 2: 'a' is in split 'test', but an earlier line puts it in 'train'; remove one of the lines"
    )
    written(tmp_path, "g\n", "validation.txt")
    assert refused(tmp_path) == (
        "PATH has validation.txt; expected lists called train.txt, val.txt, dev.txt, test.txt; rename or remove it"
    )
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty") == (
        "PATH has no list; expected any of train.txt, val.txt, dev.txt, test.txt; add one"
    )


def test_lists_as_spreadsheets_write_them(tmp_path: Path) -> None:
    lines = 'a;Train\n"b, c",TEST\n"d; e";val\n'
    assert read_splits(written(tmp_path, lines)) == {"a": "train", "b, c": "test", "d; e": "val"}


def test_mistakes_in_a_list(tmp_path: Path) -> None:
    def of(text: str | bytes) -> str:
        return refused(written(tmp_path, text))

    known = "expected one of train, val, dev, test; correct the line"
    assert of("a 0\nb 3\n") == f"PATH, line 2: the split is '3'; {known}"
    assert of("a train\n\nb Trainn\n") == f"PATH, line 3: the split is 'trainn'; {known}"
    assert of("a,train\nb,\n") == f"PATH, line 2: the split is ''; {known}"
    assert of("name,split\na,train\nb,tset\n") == f"PATH, line 3: the split is 'tset'; {known}"
    assert of("name,split\na,train\nb,test,dev\n") == (
        "PATH, line 3 has 3 fields; expected 2 as in the header; correct the line"
    )
    assert of("a train\nb test\na val\n") == (
        "PATH, line 3: 'a' is in split 'val', but an earlier line puts it in 'train'; remove one of the lines"
    )
    assert of("a train\nb\n") == "PATH, line 2: 'b' has no split; expected NAME,SPLIT; add one of train, val, dev, test"
    assert of(", train") == "PATH, line 1 has no name, but needs a picture's name and its split; correct the line"
    assert of("name,split\n,train") == (
        "PATH, line 2 has no name, but needs a picture's name and its split; correct the line"
    )
    assert of(b"a train\nb test\n\xe9 test\n") == ("PATH, line 3 is not UTF-8; expected a text file; save it as UTF-8")
    assert "PATH, line 1 is not UTF-8" in of("a train\n".encode("utf-16-le"))  # no mark says what it is
    nothing = "PATH puts no picture in a split; add names to train, val, dev, test, or choose another file"
    assert of("") == of("# a train\n\n") == of("name,split\n") == of("name,split\na,\n") == nothing
    assert of("x" * 500) == (
        f"PATH, line 1: '{'x' * 77}...' has no split; expected NAME,SPLIT; add one of train, val, dev, test"
    )
    assert "line 2: field larger than field limit (131072)" in of(f"name,split\n{'x' * 140_000},train")
    assert refused(tmp_path / "gone") == (
        "PATH: cannot be read (No such file or directory); expected a text file; choose another"
    )


# ------------------------------------------------------------------------------------------------- applying


def listing(*pictures: str, notes: tuple[str, ...] = ()) -> Listing:
    """Items named by their stem."""
    items = [Item(path.rpartition(".")[0], Path("/set/jpg", path)) for path in pictures]
    return Listing(tuple(items), notes=notes)


def applied(splits: dict[str, str], *pictures: str) -> list[str]:
    return [item.split for item in apply_splits(listing(*pictures), splits, "X").items]


@pytest.mark.parametrize(
    "key", ["a/1", "1", "a/1.jpg", "1.jpg", "jpg/a/1", "jpg/a/1.jpg", "/set/jpg/a/1.jpg", "./a/1.jpg", "a//1"]
)
def test_what_names_a_picture(key: str) -> None:
    assert applied({key: "val", "2": "train"}, "a/1.jpg", "b/2.jpg", "a/11.jpg") == ["val", "train", ""]


@pytest.mark.parametrize("key", ["1.png", "b/1", "/1.jpg", "x/jpg/a/1", "a", "jpg", "/", ".", "..", "A/1"])
def test_what_does_not(key: str) -> None:
    with pytest.raises(DataError, match="does not name any of these pictures"):
        applied({key: "val"}, "a/1.jpg", "c/2.jpg")


def test_the_item_s_name_counts_before_paths_and_the_whole_before_the_stem() -> None:
    assert applied({"1": "val"}, "1.jpg", "b/1.jpg") == ["val", "train"]
    assert applied({"b/1": "val"}, "1.jpg", "b/1.jpg") == ["train", "val"]
    same = Listing((Item("p", Path("/s/x.jpg")), Item("q", Path("/s/x.jpg.png"))))
    assert [item.split for item in apply_splits(same, {"x.jpg": "val"}, "X").items] == ["val", "train"]


def test_a_number_in_the_set_s_own_list_names_a_picture_where_no_name_does() -> None:
    items = tuple(Item(name, Path(f"/s/{name}.jpg"), number=number) for name, number in (("x", "1"), ("y", "12")))
    assert [i.split for i in apply_splits(Listing(items), {"1": "test", "0012": "val"}, "X").items] == ["test", "val"]
    called_12 = (*items, Item("12", Path("/s/12.jpg"), number="3"))
    assert [i.split for i in apply_splits(Listing(called_12), {"12": "test"}, "X").items] == ["train", "train", "test"]
    with pytest.raises(DataError, match="does not name any of these pictures"):
        apply_splits(Listing(items), {"2": "test", "0": "val"}, "X")


def test_names_that_are_no_text() -> None:
    odd = os.fsdecode(b"\xe9\n.jpg")
    assert applied({"\\xe9\\n": "val"}, odd, "b.jpg") == ["val", "train"]
    assert applied({"\\xe9\\n.jpg": "val"}, odd, "b.jpg") == ["val", "train"]
    assert applied({"a\xa0b.jpg": "val"}, "a\xa0b.jpg", "b.jpg") == ["val", "train"]


def test_a_name_of_several_pictures_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        applied({"1.jpg": "val"}, "a/1.jpg", "b/1.jpg")
    assert str(caught.value) == ("X: '1.jpg' fits /set/jpg/a/1.jpg and /set/jpg/b/1.jpg; write more of its path")
    assert applied({"a/1.jpg": "val", "b/1": "val"}, "a/1.jpg", "b/1.jpg") == ["val", "val"]


def test_a_picture_in_two_splits_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        applied({"a/1": "val", "1.jpg": "test"}, "a/1.jpg", "b/2.jpg")
    assert str(caught.value) == (
        "X: 'a/1' and '1.jpg' are the same picture, but in different splits; remove one of them"
    )
    assert applied({"a/1": "val", "1.jpg": "val"}, "a/1.jpg", "b/2.jpg") == ["val", "train"]


def test_a_list_of_another_set_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        applied({"image_1": "val"}, "a/1.jpg")
    assert str(caught.value) == (
        "X does not name any of these pictures: it has names such as 'image_1', and they have names such as "
        "'a/1'; choose the list that belongs to these pictures"
    )
    with pytest.raises(DataError, match="they have names such as none"):
        applied({"image_1": "val"})


def test_pictures_that_are_not_named() -> None:
    names = ("1.jpg", "2.jpg", "3.jpg")
    rest = apply_splits(listing(*names), {"1": "val"}, "X")
    assert [item.split for item in rest.items] == ["val", "train", "train"]
    assert rest.notes == ("splits from X: 2 train, 1 val; pictures it does not name: 2, in train",)
    whole = apply_splits(listing(*names), {"1": "val", "2": "train", "9": "test", "8": "test"}, "X")
    assert [item.split for item in whole.items] == ["val", "train", ""]
    assert whole.notes == (
        "splits from X: 1 train, 1 val; pictures it does not name: 1, in no split; names without a picture: 2",
    )
    # An empty split in a table is meant.
    assert applied({"1": "val", "2": ""}, *names) == ["val", "", "train"]
    none = apply_splits(listing(*names), {"1": "", "9": "train"}, "X").notes
    assert none == ("splits from X: none; pictures it does not name: 2, in no split; names without a picture: 1",)


def test_notes_on_other_splits_go_and_all_else_stays() -> None:
    before = listing("1.jpg", "2.jpg", notes=("splits drawn here (fixed): ...", "8 masks are missing"))
    before = replace(before, items=tuple(replace(item, split="dev") for item in before.items), bad=(("x", "broken"),))
    after = apply_splits(before, {"1": "val", "2": "test"}, "X")
    assert after.notes == ("8 masks are missing", "splits from X: 1 val, 1 test")
    assert after.bad == before.bad
    assert [replace(item, split="dev") for item in after.items] == list(before.items)
    dropped = drop_splits(before)
    assert ([item.split for item in dropped.items], dropped.notes) == (["", ""], ("8 masks are missing",))


def test_names_with_spaces_at_their_ends(tmp_path: Path) -> None:
    items = tuple(Item(name, Path(f"/x/{name}.jpg")) for name in (" a", "b ", "c d"))
    splits = read_splits(written(tmp_path, "name,source,split\n a, a.jpg,val\nb ,b .jpg,test\nc d,c d.jpg,train\n"))
    assert [item.split for item in apply_splits(Listing(items), splits, "x").items] == ["val", "test", "train"]


# -------------------------------------------------------------------------------------------------- drawing

SIZES = {"val": 788, "test": 1000}


def birds(count: int, labelled: int = 0) -> list[Item]:
    return [Item(f"bird_{i}", Path(f"{i}.jpg"), Path(f"{i}.png") if i < labelled else None) for i in range(count)]


def drawn(items: list[Item], official: int = 11788, salt: str = "birds") -> dict[str, str]:
    return {item.name: item.split for item in draw_splits(items, SIZES, official, salt)[0]}


def test_a_draw_of_the_whole_set() -> None:
    items, note = draw_splits(birds(11788), SIZES, 11788, "birds")
    assert Counter(item.split for item in items) == {"train": 10000, "val": 788, "test": 1000}
    assert [item.name for item in items] == [f"bird_{i}" for i in range(11788)]
    assert note == (
        "splits drawn here (fixed): 10,000 train, 788 val, 1,000 test; the paper's own list is published beside "
        "its authors' code, in datasplits/: use a copy of it with redoseg prepare --splits FILE"
    )


def test_a_draw_is_frozen() -> None:
    # Scores on another draw do not compare.
    split = drawn(birds(12))
    assert {name: s for name, s in split.items() if s != "train"} == {"bird_0": "test", "bird_3": "val"}
    assert split != drawn(birds(12), salt="others")


def test_a_draw_does_not_depend_on_the_order() -> None:
    items = birds(3000, labelled=2000)
    shuffled = list(items)
    random.Random(0).shuffle(shuffled)
    assert drawn(items) == drawn(shuffled)


def test_pictures_keep_their_split_when_others_come() -> None:
    before, after = drawn(birds(6000)), drawn(birds(6600))
    moved = sum(after[name] != split for name, split in before.items())
    # A new draw would move about one in four.
    assert moved < 0.02 * len(before)


def test_a_draw_from_what_is_labelled() -> None:
    split = drawn(birds(11788, labelled=1788))
    assert {name for name, s in split.items() if s != "train"} == {f"bird_{i}" for i in range(1788)}
    # Half as many labels: half as large.
    assert Counter(drawn(birds(11788, labelled=894)).values()) == {"train": 10894, "val": 394, "test": 500}
    assert Counter(drawn(birds(5894)).values()) == {"train": 5000, "val": 394, "test": 500}
    # All labelled, but only an eighth is here: most is still to train on.
    assert Counter(drawn(birds(1474, labelled=1474)).values()) == {"train": 1250, "val": 99, "test": 125}
    assert Counter(drawn(birds(1)).values()) == {"train": 1}
    assert drawn([]) == {}
