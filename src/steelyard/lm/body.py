"""Bodies of replies, decoded within bounds: what comes from outside may be endless or a bomb."""

from __future__ import annotations

import zlib

__all__ = ["MAX_BODY", "BodyRefused", "Decoder", "decode"]

MAX_BODY = 64 * 2**20
"""Most bytes of one reply, raw or decoded."""


class BodyRefused(ValueError):
    """A body that is too large, or not in the encoding that it names."""


class Decoder:
    """A body's parts in, decoded parts out, never more than `most` bytes in all (`MAX_BODY` if left out).

    Args:
        encoding: `Content-Encoding`; gzip, deflate or none. Others are not asked for and not read.

    Raises:
        BodyRefused: such an encoding, here; any other problem, when it is met.
    """

    def __init__(self, encoding: str | None, *, most: int | None = None) -> None:
        self.encoding, self.most = (encoding or "").strip().lower(), most or MAX_BODY
        self._raw = self._made = 0
        self._zlib = None
        self._started = False
        if self.encoding in ("gzip", "x-gzip"):
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif self.encoding == "deflate":
            self._zlib = zlib.decompressobj()
        elif self.encoding not in ("", "identity"):
            raise BodyRefused(f"it is encoded as {self.encoding[:40]!r}, which was not asked for")

    def feed(self, part: bytes) -> bytes:
        """The next decoded bytes."""
        self._raw += len(part)
        self._bound(self._raw)
        if self._zlib is None:
            return part
        try:
            made = self._zlib.decompress(part, self.most + 1 - self._made)
        except zlib.error as error:
            if self.encoding != "deflate" or self._started:
                raise BodyRefused(f"it is no {self.encoding}: {error}") from None
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without a header, as some servers send
            return self._again(part)
        self._started = True
        self._made += len(made)
        self._bound(self._made)
        return made

    def end(self) -> None:
        """Nothing, where the body was whole."""
        if self._zlib is not None and self._raw and not self._zlib.eof:
            raise BodyRefused(f"its {self.encoding} ends too early")

    def _again(self, part: bytes) -> bytes:
        self._started = True
        self._raw -= len(part)
        return self.feed(part)

    def _bound(self, size: int) -> None:
        if size > self.most:
            raise BodyRefused(f"it is larger than {self.most // 2**20} MB")


def decode(raw: bytes, encoding: str | None, *, most: int | None = None) -> bytes:
    """A whole body, decoded.

    Raises:
        BodyRefused: it cannot be.
    """
    decoder = Decoder(encoding, most=most)
    out = decoder.feed(raw)
    decoder.end()
    return out
