"""What is made of a film's frames, as a film: formats, sound, times. Each is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from redoseg.config.kinds import Kind
from redoseg.errors import DataError
from redoseg.files import describe_error, printable, whole_file
from redoseg.inference.animations import pyav
from redoseg.inference.film_reading import FilmFile
from redoseg.own_results import MARK

FilmFormat = Literal["auto", "mp4", "webm", "prores", "ffv1", "frames"]
"""Of the films that are written; "frames" is a folder of PNG files."""

_BT709, _LIMITED = 1, 1  # as FFmpeg numbers colour matrices and ranges


class _Form(NamedTuple):
    """How a film is packed."""

    suffix: str
    container: str
    codec: str
    plain: str
    """Pixels of a film without transparency."""
    clear: str
    """Those of one with it; empty if the format has none."""
    sound: tuple[str, ...]
    """Codecs of sound that are copied; none for all."""
    other_sound: str
    """The codec that other sound is packed with again."""
    options: dict[str, str]


FORMS: dict[FilmFormat, _Form] = {
    "mp4": _Form(
        suffix=".mp4", container="mp4", codec="libx264", plain="yuv420p", clear="",
        sound=("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"), other_sound="aac",
        options={"crf": "16", "preset": "medium"},
    ),
    "webm": _Form(
        suffix=".webm", container="webm", codec="libvpx-vp9", plain="yuv420p", clear="yuva420p",
        sound=("opus", "vorbis"), other_sound="libopus",
        options={"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0"},
    ),
    "prores": _Form(
        suffix=".mov", container="mov", codec="prores_ks", plain="yuv444p10le", clear="yuva444p10le",
        sound=("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
        other_sound="aac", options={"profile": "4444", "alpha_bits": "16", "vendor": "apl0"},
    ),
    "ffv1": _Form(
        suffix=".mkv", container="matroska", codec="ffv1", plain="bgr0", clear="bgra", sound=(), other_sound="libopus",
        options={"level": "3", "slices": "4", "slicecrc": "1"},
    ),
}  # fmt: skip
FILM_FORMATS = {form.suffix: name for name, form in FORMS.items()}
"""By the suffix of a result."""


def form_of(asked: FilmFormat, kind: Kind, clear: bool) -> FilmFormat:
    """The format of a kind of film; `clear` if it is transparent."""
    if asked != "auto":
        return asked
    return "webm" if kind == "cutout" and clear else "mp4"


def pixels_of(film_format: FilmFormat, kind: Kind, clear: bool, size: tuple[int, int]) -> str:
    """The format of pixels, as FFmpeg calls it, of a film of this size (width, height)."""
    form = FORMS[film_format]
    if film_format == "ffv1" and kind in ("mask", "soft"):
        return "gray"
    if clear:
        return form.clear
    # in a format with half the pixels of colour, H.264 has no odd sides: no pixel should be lost or added
    return "yuv444p" if film_format == "mp4" and (size[0] % 2 or size[1] % 2) else form.plain


def packed_frame(image: Image.Image, pixels: str) -> Any:
    """An image (L, RGB, RGBA) as a frame of PyAV in this format of pixels."""
    av = pyav()
    if pixels == "gray":
        return av.VideoFrame.from_ndarray(np.asarray(image), format="gray")
    mode = "RGBA" if pixels.startswith(("yuva", "bgra")) else "RGB"
    frame = av.VideoFrame.from_ndarray(
        np.ascontiguousarray(image.convert(mode)), format={"RGBA": "rgba", "RGB": "rgb24"}[mode]
    )
    if pixels.startswith("bgr"):
        return frame.reformat(format=pixels)
    return frame.reformat(format=pixels, dst_colorspace=_BT709, dst_color_range=_LIMITED, threads=1)


@dataclass
class FilmWriter:
    """A film that is being written: its pictures, and the sound of the film that they are made of."""

    path: Path
    container: Any
    stream: Any
    sounds: dict[int, _Sound]
    time_base: Fraction
    notes: list[str] = field(default_factory=list)
    _last: int = -(2**62)

    def add(self, frame: Any, time: int, duration: int) -> None:
        """The next frame, of PyAV; `time` and `duration` are in the time base."""
        time = max(time, self._last + 1)  # some files give a time twice, which no container takes
        frame.pts, frame.time_base, self._last = time, self.time_base, time
        if duration:
            frame.duration = duration
        with _written(self.path):
            self.container.mux(self.stream.encode(frame))

    def add_sound(self, packet: Any) -> None:
        """A packet of sound of the film that is read. It is not changed."""
        with _written(self.path):
            self.sounds[packet.stream.index].add(packet, self.container)

    def finish(self) -> None:
        """Write what is still under way."""
        with _written(self.path):
            self.container.mux(self.stream.encode())
            for sound in self.sounds.values():
                sound.finish(self.container)


@dataclass
class _Sound:
    """A stream of sound: copied, or packed again."""

    source: Any
    target: Any
    again: Any | None = None
    """Resampler, where it is packed again."""

    def add(self, packet: Any, container: Any) -> None:
        if self.again is not None:
            frames = []
            with contextlib.suppress(pyav().error.InvalidDataError):  # a damaged piece of sound
                frames = packet.decode()
            for frame in frames:
                for part in self.again.resample(frame):
                    container.mux(self.target.encode(part))
            return
        kept = packet.stream, packet.pts, packet.dts, packet.duration, packet.time_base
        packet.stream = self.target
        container.mux(packet)
        packet.stream, packet.pts, packet.dts, packet.duration, packet.time_base = kept  # for the next writer

    def finish(self, container: Any) -> None:
        if self.again is not None:
            for part in self.again.resample(None):
                container.mux(self.target.encode(part))
            container.mux(self.target.encode())


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    """What FFmpeg cannot write is an OSError, as of any other file."""
    av = pyav()
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError) or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            raise OSError(error.errno, error.strerror) from error
        raise DataError(
            f"{printable(path)}: cannot be packed ({describe_error(error)}); choose another --film"
        ) from error


@contextlib.contextmanager
def film_writer(
    path: Path, film: FilmFile, kind: Kind, film_format: FilmFormat, size: tuple[int, int], *, clear: bool, key: str
) -> Iterator[FilmWriter]:
    """A film of this size (width, height), which has its name when the block ends; an error or a kill leaves none.

    Raises DataError if it cannot be written, FullError where no other could be either.
    """
    av, form = pyav(), FORMS[film_format]
    options = {"movflags": "+faststart"} if form.container in ("mp4", "mov") else {}
    with (
        whole_file(path) as file,
        _written(path),
        av.open(file.name, "w", format=form.container, options=options) as container,
    ):
        container.metadata["comment"] = f"{MARK['Software']} redoseg key {key}"
        stream = container.add_stream(form.codec, rate=film.rate, options=_options(form, kind))
        stream.width, stream.height = size
        stream.pix_fmt = pixels_of(film_format, kind, clear, size)
        stream.time_base = stream.codec_context.time_base = film.time_base
        if not stream.pix_fmt.startswith(("gray", "bgr")):
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
        turned = size != (film.video.codec_context.width, film.video.codec_context.height)
        if film.aspect != 1:
            stream.codec_context.sample_aspect_ratio = 1 / film.aspect if turned else film.aspect
        writer = FilmWriter(path, container, stream, {}, film.time_base)
        _add_sounds(writer, film.sounds, form)
        yield writer
        writer.finish()


def _options(form: _Form, kind: Kind) -> dict[str, str]:
    # a mask has few bits, and each of its pixels should stay on its side of the threshold
    return form.options | ({"crf": "6"} if kind in ("mask", "soft") and "crf" in form.options else {})


def _add_sounds(writer: FilmWriter, sounds: Sequence[Any], form: _Form) -> None:
    av = pyav()
    for source in sounds:
        name = source.codec_context.name
        if not form.sound or name.removesuffix("float") in form.sound:  # mp3float decodes mp3
            writer.sounds[source.index] = _Sound(source, writer.container.add_stream_from_template(source))
            continue
        rate = 48_000 if form.other_sound == "libopus" else source.codec_context.sample_rate
        target = writer.container.add_stream(form.other_sound, rate=rate)
        target.layout = "mono" if source.codec_context.layout.nb_channels == 1 else "stereo"
        target.bit_rate = 128_000
        sample = "s16" if form.other_sound == "libopus" else "fltp"
        size = 960 if form.other_sound == "libopus" else 1024
        again = av.AudioResampler(format=sample, layout=target.layout, rate=rate, frame_size=size)
        writer.sounds[source.index] = _Sound(source, target, again)
        into = {"libopus": "Opus", "aac": "AAC"}[form.other_sound]
        writer.notes.append(f"its sound ({name}) is packed again as {into}, since {form.suffix} does not take {name}")


def film_key(path: Path) -> str | None:
    """The key that a film was written with; "" where it has none, None where no film of redoseg can be read there."""
    av = pyav("films need")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            comment = next((value for name, value in container.metadata.items() if name.lower() == "comment"), "")
    except (av.FFmpegError, OSError, ValueError):
        return None
    if not comment.startswith(MARK["Software"]):
        return None
    return comment.rpartition("redoseg key ")[2] if "redoseg key " in comment else ""
