"""What this project uses of the package `zstandard`, by Python 3.14's own library: where the package has no build.

Invariant: the frames are Zstandard's, with the size of their contents in the header; no more is decompressed than is
asked for.
"""

from __future__ import annotations

import io
from typing import Any

import attrs
from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # since Python 3.14

ZstdError = zstd.ZstdError


@attrs.frozen
class ZstdCompressionParameters:
    """A level, for contents of a size that is known."""

    level: int

    @classmethod
    def from_level(cls, level: int, source_size: int = 0) -> ZstdCompressionParameters:
        """See the package."""
        return cls(level)


@attrs.frozen
class FrameParameters:
    """What the head of a frame says."""

    content_size: int


def get_frame_parameters(data: bytes | memoryview) -> FrameParameters:
    """Raises `ZstdError`, `ValueError`."""
    size = zstd.get_frame_info(data).decompressed_size
    return FrameParameters(-1 if size is None else size)


class ZstdCompressor:
    """See the package."""

    def __init__(self, compression_params: ZstdCompressionParameters) -> None:
        self._level = compression_params.level

    def compress(self, data: bytes | memoryview) -> bytes:
        """One frame."""
        compressed: bytes = zstd.compress(data, self._level)
        return compressed


class ZstdDecompressor:
    """See the package."""

    def __init__(self, max_window_size: int = 0) -> None:
        self._options: dict[Any, int] = {}
        if max_window_size:
            self._options = {zstd.DecompressionParameter.window_log_max: max(10, max_window_size.bit_length() - 1)}

    def decompress(self, data: bytes | memoryview, max_output_size: int = 0) -> bytes:
        """The contents of one frame. Raises `ZstdError` if they are longer."""
        decompressor = zstd.ZstdDecompressor(options=self._options)
        found: bytes = decompressor.decompress(data, max_output_size or -1)
        if not decompressor.eof:
            raise ZstdError("the contents are longer than they may be, or cut off")
        return found

    def stream_reader(self, data: bytes | memoryview) -> io.BufferedIOBase:
        """To be read bit by bit."""
        reader: io.BufferedIOBase = zstd.ZstdFile(io.BytesIO(data), options=self._options)
        return reader
