"""A film as photographs, one after the other, each upright, with its time; and the packets of its sound, unchanged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from redoseg.errors import DataError
from redoseg.files import describe_error, printable
from redoseg.images.photo import Photo, to_photo
from redoseg.images.read import MAX_PIXELS
from redoseg.inference.animations import pyav

_MOST_TIMES = 2**31 - 1  # of a time base, as encoders count
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # those of FFmpeg itself pass over the opacity
_SHORT = Fraction(1, 2)  # seconds by which a film may end before it says


class Frame(NamedTuple):
    """A frame of a film."""

    photo: Photo
    time: int
    """When it is shown [the film's time base], from 0 at the start of the film."""
    duration: int
    """How long, 0 where the film does not say."""


@dataclass
class FilmFile:
    """An open film. Frames and packets of sound come in the order of the file; nothing of them is kept."""

    path: Path
    container: Any
    video: Any
    sounds: list[Any]
    time_base: Fraction
    rate: Fraction
    notes: list[str] = field(default_factory=list)
    """What a user should know of the film, known when it has been read."""
    damaged: int = 0
    _last: Fraction = Fraction(0)

    @property
    def frames(self) -> int | None:
        """How many frames there should be, for the progress; None where nothing says."""
        if self.video.frames:
            return int(self.video.frames)
        length = self._length()
        return round(length * self.rate) if length else None

    @property
    def aspect(self) -> Fraction:
        """Width of a pixel as a share of its height, lying as stored."""
        return self.video.sample_aspect_ratio or Fraction(1)

    def _length(self) -> Fraction | None:
        """Seconds of the picture, as far as the file says."""
        if self.video.duration:
            return Fraction(self.video.duration) * self.video.time_base
        return Fraction(self.container.duration, 1_000_000) if self.container.duration and not self.sounds else None

    def read(self) -> Iterator[Frame | Any]:
        """Each frame, and each packet of sound (of PyAV). A film that breaks off ends there, with a note.

        Raises DataError for a film whose frames are too large.
        """
        av = pyav()
        offset = max(0, self.container.start_time or 0)  # [1/1,000,000 s]
        shift = round(Fraction(offset, 1_000_000) / self.time_base)
        decoder = self._decoder()
        packets = self.container.demux([self.video, *self.sounds])
        count = 0
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self.notes.append(f"ends early ({describe_error(error)}); what comes before that is segmented")
                packets, packet = iter(()), None
            if packet is not None and packet.stream is not self.video:
                if packet.dts is not None:
                    _earlier(packet, offset)
                    yield packet
                continue
            for frame in self._decoded(decoder, packet):
                count += 1
                yield self._frame(frame, count, shift)
            if packet is None:
                break
        length = self._length()
        if length and not self.notes and count and self._last < length - max(_SHORT, length / 50):
            self.notes.append(f"ends after {float(self._last):.1f} s of {float(length):.1f} s; that part is segmented")
        if self.damaged:
            self.notes.append(f"{self.damaged:,} damaged parts of it were passed over")

    def _decoder(self) -> Any:
        """What decodes the picture: with its opacity, if it has any."""
        name = _ALPHA_DECODERS.get(self.video.codec_context.name)
        if name and self.video.metadata.get("alpha_mode", self.video.metadata.get("ALPHA_MODE")) == "1":
            av = pyav()
            with contextlib.suppress(av.FFmpegError):  # built without it
                return av.CodecContext.create(name, "r")
        self.video.thread_type = "AUTO"
        return self.video.codec_context

    def _decoded(self, decoder: Any, packet: Any | None) -> list[Any]:
        av = pyav()
        try:
            return list(decoder.decode(packet))
        except av.EOFError:
            return []
        except av.FFmpegError:
            self.damaged += 1
            return []

    def _frame(self, frame: Any, count: int, shift: int) -> Frame:
        if frame.width * frame.height > MAX_PIXELS:
            raise DataError(
                f"{printable(self.path)}: its frames have {frame.width * frame.height // 10**6} million pixels, but "
                f"at most {MAX_PIXELS // 10**6} million are read; make it smaller"
            )
        base = frame.time_base or self.time_base
        step = round(1 / (self.rate * self.time_base))
        if frame.pts is None:  # as in raw streams
            time = round(self._last / self.time_base)
        else:
            time = round(frame.pts * base / self.time_base) - shift
        duration = round((frame.duration or 0) * base / self.time_base)
        self._last = (time + (duration or step)) * self.time_base
        return Frame(_photo_of(frame), time, duration)


def _earlier(packet: Any, offset: int) -> None:
    """Count a packet's times from the start of the film, which begins at `offset` [1/1,000,000 s]."""
    if offset:
        less = round(Fraction(offset, 1_000_000) / packet.time_base)
        packet.dts -= less
        packet.pts = None if packet.pts is None else packet.pts - less


def _photo_of(frame: Any) -> Photo:
    """A frame upright: 8-bit RGB, with its opacity if it has one."""
    opaque = not any(part.is_alpha for part in frame.format.components) and frame.format.name != "pal8"
    image = Image.fromarray(frame.to_ndarray(format="rgb24" if opaque else "rgba"))
    turn = _TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return Photo(image, turn) if opaque else to_photo(image, turn=turn)


@contextlib.contextmanager
def open_film(path: Path) -> Iterator[FilmFile]:
    """A film, open for the block. Raises DataError for another kind of file, MissingError without PyAV."""
    av = pyav("films need")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"{printable(path)}: cannot be read as a film ({describe_error(error)}); replace or remove it"
        ) from None
    with container:
        videos = [one for one in container.streams.video if not _is_cover(one)]
        if not videos:
            raise DataError(f"{printable(path)}: it has no pictures, only sound or text; choose a film")
        video = videos[0]
        if video.codec_context is None or not video.codec_context.width:
            raise DataError(f"{printable(path)}: its pictures cannot be decoded; save it as MP4 with H.264")
        rate = video.average_rate or video.guessed_rate or Fraction(25)
        base = video.time_base or 1 / rate
        if base.denominator > _MOST_TIMES or base.numerator > _MOST_TIMES:
            base = Fraction(1, 90_000)
        sounds = [one for one in container.streams.audio if one.codec_context is not None]
        yield FilmFile(
            path=path, container=container, video=video, sounds=sounds, time_base=Fraction(base), rate=Fraction(rate)
        )


def _is_cover(stream: Any) -> bool:
    """Whether a stream of pictures is the cover of a piece of music."""
    return "attached_pic" in str(stream.disposition)
