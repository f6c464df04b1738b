"""What kind of file something is: by its suffix, and by its first bytes where that says nothing or is wrong."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path

from redoseg.errors import pip_install
from redoseg.images.camera_raw import TIFF_STARTS, is_raw_start

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff",
    ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
)  # fmt: skip
HEIC_SUFFIXES = (".heic", ".heics", ".heif", ".heifs", ".hif")
FILM_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".webm", ".mkv", ".avi", ".3gp", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv",
    ".ogv",
)  # fmt: skip

# Pictures that are not read: a person who has some should know.
_RAW_SUFFIXES = (
    ".dng", ".raw", ".arw", ".srf", ".sr2", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".orf", ".raf", ".rw2", ".rwl",
    ".pef", ".ptx", ".srw", ".x3f", ".3fr", ".fff", ".iiq", ".mrw", ".dcr", ".kdc", ".k25", ".erf", ".mef", ".mos",
    ".gpr", ".bay", ".cap", ".eip", ".rwz",
)  # fmt: skip
_OTHER_SUFFIXES = (
    ".jxl", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jpm", ".jxr", ".wdp", ".hdp", ".jls", ".exr", ".hdr", ".psd",
    ".psb", ".xcf", ".kra", ".svg", ".svgz", ".eps", ".wmf", ".emf", ".tga", ".dds", ".ktx", ".ktx2", ".ico", ".icns",
    ".cur", ".pcx", ".sgi", ".qoi", ".pam", ".pfm", ".fits", ".dcm", ".dicom", ".mng", ".jng", ".avifs", ".bpg",
    ".flif",
)  # fmt: skip

_OTHER_FILES = (
    ".json", ".jsonl", ".txt", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".htm", ".md", ".pdf", ".zip", ".tar",
    ".gz", ".tgz", ".7z", ".rar", ".parquet", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl", ".onnx", ".doc", ".docx",
    ".xls", ".xlsx", ".ppt", ".pptx",
)  # fmt: skip

HEAD = 600  # bytes that say what a file is: a film of packets begins each 188th with the same
_EXPORT = "which is not read; export it as JPEG, PNG or WebP"
NOT_READ = "a format that is not read; export it as JPEG, PNG or WebP"
RAW = f"a camera's raw picture, {_EXPORT}"


def has_heif() -> bool:
    """Whether pillow-heif is there, which reads HEIC."""
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def register_heif() -> bool:
    """Let Pillow read HEIC; whether it can. Imports pillow-heif, at the first such file."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _brand(*names: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12] in names


_is_heic = _brand(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")


def is_heic(head: bytes) -> bool:
    """Whether a file that starts so is HEIC; AVIF has another brand, first or among those it is compatible with."""
    return _is_heic(head) and b"avif" not in head[:64]


def is_readable(head: bytes) -> bool:
    """Whether a file that starts so is of a format that is read."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[15:18] == b"\0\0\0")
        or (head.startswith(TIFF_STARTS) and not is_raw_start(head))
        or re.match(rb"P[1-6]\s+(#|\d+\s)", head) is not None
        or _brand(b"avif", b"avis")(head)
        or (_is_heic(head) and b"avif" in head[:64])
    )


def _begins_film(head: bytes) -> bool:
    return (
        head[4:8] in (b"ftyp", b"moov")
        or head.startswith((b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"))
        or (head.startswith(b"\0\0\x01") and head[3:4] in (b"\xba", b"\xb3"))
        or head[8:12] == b"AVI "
        or (head[:1] == head[188:189] == head[376:377] == b"\x47")
    )


def is_film(path: Path) -> bool:
    """Whether a file is a film: by its suffix, or by its first bytes where the name has none."""
    suffix = path.suffix.lower()
    if suffix:
        return suffix in FILM_SUFFIXES
    head = _head(path)
    return _begins_film(head) and not is_readable(head) and not is_heic(head)


def what_it_is(head: bytes) -> str | None:
    """In words what a file that starts so is and what to do with it, if it is a known kind that is not read.

    It may be of a kind that is read, but damaged.
    """
    for name, is_begun in _READ:
        if is_begun(head):
            return (
                f"{name} file that is damaged, ends early or is of a kind that is not read; save it again or remove it"
            )
    if head and any(start.startswith(head) for start in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")):
        return f"the first {len(head)} byte{'s' * (len(head) != 1)} of a picture; replace or remove it"
    if is_heic(head):
        return f"a HEIC picture, which needs pillow-heif; export it as JPEG or PNG, or run: {pip_install('heic')}"
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        return "an archive of files, not a picture; unpack it and choose its folder"
    if is_raw_start(head) or (head[4:8] == b"ftyp" and head[8:11] == b"crx"):
        return RAW
    if head.startswith(TIFF_STARTS):
        return (
            "a TIFF file that is damaged or of a kind that is not read, such as with numbers of 64 bits; save it again "
            "with 8 or 16 bits a channel, or remove it"
        )
    for name, starts in _KNOWN:
        if head.startswith(starts):
            return f"{name}, {_EXPORT}"
    if head[128:132] == b"DICM":
        return f"a DICOM picture, {_EXPORT}"
    if _begins_film(head):
        return "a film, not a picture; export a picture of it, or remove it"
    if head.startswith((b"\0\0\x01\0", b"\0\0\x02\0")) and head[5:6] == b"\0" != head[4:5]:
        return f"an icon, {_EXPORT}"
    if head.startswith(_NUMBERS):
        return "an array of numbers, not a picture; save it as PNG or TIFF, or remove it"
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return "an Office document or what Windows notes of a folder, not a picture; remove it"
    if head.startswith((b"\0\x05\x16\x07", b"\0\0\0\x01Bud1")):
        return "a note of macOS on another file, not a picture; remove it"
    if head and not head.strip(b"\0"):
        return "nothing but zeros, as a copy or a download that was broken off leaves; replace or remove it"
    return _what_text_it_is(head)


def _what_text_it_is(head: bytes) -> str | None:
    """As `what_it_is`, of a text."""
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    whole = head.decode("utf-16", "ignore") if wide else head.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    text, packed = whole.strip().lower(), "".join(whole.split())
    if text.startswith("version https://git-lfs"):
        return "a Git LFS pointer, not the picture itself; replace it with git lfs pull, or remove it"
    if text.lstrip("./").startswith(("annex/objects/", "git/annex/objects/")):
        return "a git-annex pointer, not the picture itself; replace it with git annex get, or remove it"
    if text.startswith("<svg") or (text.startswith("<?xml") and "<svg" in text):
        return f"an SVG drawing, {_EXPORT}"
    if text.startswith(("<!doctype html", "<html", "<head", "<body", "<title", "<script", "<meta")) or "<html" in text:
        return "a web page (HTML), not a picture; replace it with the picture itself, or remove it"
    if packed.startswith(("data:image/", "/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD")):
        return "a text of a picture in base64, not the picture itself; decode it, or remove it"
    what = "XML" if text.startswith("<?xml") else "JSON" if re.match(r'\{"|\{\}|\[[\[{\d"\]]', packed) else ""
    if what:
        return f"a text in {what}, perhaps a server's error, not a picture; replace it with the picture, or remove it"
    return None


def _starts(*starts: bytes) -> Callable[[bytes], bool]:
    """Whether a file begins so, or ends within that, but not before its fourth byte."""
    return lambda head: head.startswith(starts) or (len(head) >= 4 and any(s.startswith(head) for s in starts))


_READ: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("a JPEG", _starts(b"\xff\xd8\xff")),
    ("a PNG", _starts(b"\x89PNG\r\n\x1a\n")),
    ("a GIF", _starts(b"GIF87a", b"GIF89a")),
    ("a WebP", lambda head: head[:4] == b"RIFF" and b"WEBP".startswith(head[8:12])),
    (
        "a BMP",
        lambda head: head[:2] == b"BM" and b"\0\0\0\0".startswith(head[6:10]) and b"\0\0\0".startswith(head[15:18]),
    ),
    ("a PPM", lambda head: re.match(rb"P[1-6]\s+(#|\d+\s|\d*$)", head) is not None),
    ("an AVIF", lambda head: is_readable(head) and head[4:8] == b"ftyp"),
)
_KNOWN: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("a JPEG XL picture", (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    ("a JPEG 2000 picture", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    ("a JPEG XR picture", (b"II\xbc",)),
    ("an OpenEXR picture", (b"v/1\x01",)),
    ("a Photoshop picture", (b"8BPS",)),
    ("a GIMP picture", (b"gimp xcf",)),
    ("a Radiance picture", (b"#?RADIANCE", b"#?RGBE")),
    ("a DirectDraw picture", (b"DDS ",)),
    ("a QOI picture", (b"qoif",)),
    ("a PDF document", (b"%PDF",)),
    ("a PostScript file", (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("a FITS picture", (b"SIMPLE  =",)),
    ("a BPG picture", (b"BPG\xfb",)),
    ("a FLIF picture", (b"FLIF",)),
    ("an SGI picture", (b"\x01\xda\x00", b"\x01\xda\x01")),
    ("a PAM or PFM picture", (b"P7\n", b"PF\n", b"Pf\n")),
    ("an MNG or JNG picture", (b"\x8aMNG", b"\x8bJNG")),
    ("a KTX picture", (b"\xabKTX ",)),
    ("a Windows metafile", (b"\xd7\xcd\xc6\x9a",)),
    ("an icon", (b"icns",)),
    ("a camera's raw picture", (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAP")),
)
_ARCHIVES = (
    b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh", b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18",
)  # fmt: skip
_NUMBERS = (b"\x93NUMPY", b"\x89HDF\r\n\x1a\n", b"MATLAB 5.0")
_DOCUMENTS = (
    "an archive", "a web page", "a PDF", "a PostScript", "an SVG", "a film", "an icon", "a text", "an array",
    "an Office", "a note", "nothing but zeros", "the first ",
)  # not taken for pictures unless they are named so  # fmt: skip


def listed(path: Path) -> bool | str:
    """Whether a file in a folder is a picture that is read; or, of a picture that is not, why not and what to do.

    Notes, tables, films and other files that nobody takes for pictures are False. Raises OSError for a file that is
    named like a picture and cannot be looked at.
    """
    by_name = listed_by_name(path.name)
    if by_name:
        return by_name
    head = _head(path)
    if is_readable(head):
        return True
    if is_heic(head) and has_heif():
        return True
    said = what_it_is(head)
    return said if said is not None and not said.startswith(_DOCUMENTS) else False


def listed_by_name(name: str) -> bool | str:
    """As `listed`, by the name alone: False where the suffix says nothing."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    if suffix in HEIC_SUFFIXES:
        return has_heif() or str(what_it_is(b"\0\0\0\0ftypheic"))
    return RAW if suffix in _RAW_SUFFIXES else NOT_READ if suffix in _OTHER_SUFFIXES else False


def names_a_file(name: str) -> bool:
    """Whether a name ends like that of a picture, film, table or archive, of a format that is written or not.

    Other endings may be part of a folder's name, as in masks.v2.
    """
    suffix = os.path.splitext(name)[1].lower()
    pictures = (*IMAGE_SUFFIXES, *HEIC_SUFFIXES, *_RAW_SUFFIXES, *_OTHER_SUFFIXES)
    return suffix in (*pictures, *FILM_SUFFIXES, *_OTHER_FILES)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of what is not a plain file or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        # without blocking: by now it may be a FIFO
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            return file.read(HEAD)
    except OSError:
        return b""
