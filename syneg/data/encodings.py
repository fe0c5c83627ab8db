"""Open a text file in its encoding, decompressed if it ends with .gz, .zst, .bz2 or .xz.

    pairs.csv     --set collection.encoding=cp1252   →  read as cp1252
    corpus.jsonl  in UTF-8 beside it                 →  read as UTF-8

A byte order mark at the start of a file selects UTF-8, UTF-16 or UTF-32. Any other encoding must be named in
`collection.encoding`; it is never guessed. The name is for the files that need it: a file that is UTF-8 and holds more
than ASCII is read as UTF-8, because a text of another encoding is hardly ever valid UTF-8.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import charset_normalizer

from syneg.core.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_NO_TEXT = {  # the first bytes of files that are no text, and what to do with them
    b"\x1f\x8b": ("a .gz file", "name it .gz"),
    b"PK\x03\x04": ("a .zip or .xlsx file", "unpack it, or save the table as CSV"),
    b"PAR1": ("a Parquet file", "name it .parquet"),
    b"\x28\xb5\x2f\xfd": ("a .zst file", "name it .zst"),
    b"BZh": ("a .bz2 file", "name it .bz2"),
    b"\xfd7zXZ": ("an .xz file", "name it .xz"),
    b"\xd0\xcf\x11\xe0": ("an .xls file", "save the table as CSV"),
    b"ARROW1": ("an Arrow file", "save the table as Parquet"),
}
PACKED = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".bz2": b"BZh", ".xz": b"\xfd7zXZ"}  # their first bytes
_LATIN = 0.15  # a larger share of bytes beyond ASCII is another script


@contextmanager
def open_text(path: Path, encoding: str = "auto") -> Iterator[TextIO]:
    """Open a file as text, decompressed if it has an ending of PACKED, with its line ends unchanged.

    Raises DataError if it cannot be read or decoded.
    """
    try:
        with _open_binary(path) as binary:
            head = binary.read(4096)
        if packed := next((what for start, what in _NO_TEXT.items() if head.startswith(start)), None):
            raise DataError(f"{packed[0]}, not text", where=str(path), todo=packed[1])
        marked = next((name for mark, name in _MARKS if head.startswith(mark)), "")
        if marked or encoding == "auto":
            encoding = marked or "utf-8"
            if encoding == "utf-8" and head.count(b"\0") > len(head) // 8:
                raise _wrong_encoding(path, encoding)
        elif _known(encoding) and _is_utf8(path):
            encoding = "utf-8"
        with _as_text(path, encoding) as file:
            yield file
    except UnicodeDecodeError:
        raise _wrong_encoding(path, encoding) from None
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _broken(path) from error
    except OSError as error:
        if error.errno is None and path.suffix.lower() in PACKED:
            raise _broken(path) from error
        raise DataError(f"cannot read the file: {error.strerror}", where=str(path), todo="check the path") from error


def _broken(path: Path) -> DataError:
    kind = path.suffix.lower()
    with path.open("rb") as file:
        packed = file.read(8).startswith(PACKED[kind])
    if packed:
        return DataError(f"the {kind} file is cut or damaged", where=str(path), todo="copy or download it again")
    return DataError(f"the {kind} file is not packed", where=str(path), todo=f"rename it without {kind}")


def _is_utf8(path: Path) -> bool:
    """Whether a file is UTF-8 and holds more than ASCII. A text of another encoding is hardly ever valid UTF-8."""
    decoder, beyond = codecs.getincrementaldecoder("utf-8")(), False
    try:
        with _open_binary(path) as binary:
            while chunk := binary.read(1 << 20):
                if b"\0" in chunk:
                    return False
                beyond |= not decoder.decode(chunk).isascii()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return beyond


def _known(encoding: str) -> bool:
    """True, or DataError for a name that Python does not know."""
    try:
        return bool(codecs.lookup(encoding))
    except LookupError:
        raise DataError(
            f"unknown encoding {encoding!r}", todo="set collection.encoding to one of Python's, such as cp1252"
        ) from None


def _as_text(path: Path, encoding: str) -> TextIO:
    return io.TextIOWrapper(_open_binary(path), encoding=encoding, newline="")


def _open_binary(path: Path) -> Any:
    kind = path.suffix.lower()
    if kind == ".zst":
        import pyarrow

        packed: Any = pyarrow.CompressedInputStream(str(path), "zstd")
        return io.BufferedReader(packed)
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(kind, open)
    return opener(path, "rb")


def _wrong_encoding(path: Path, encoding: str) -> DataError:
    """The error for a file that cannot be decoded. It names the first bad line, and an encoding that may fit."""
    wanted = "utf-8" if encoding == "auto" else encoding
    with _open_binary(path) as binary:
        sample = binary.read(1 << 20)
    with _open_binary(path) as binary:
        line = next((n for n, text in enumerate(binary, 1) if not _decodes(text, wanted) or b"\0" in text), 1)
    return DataError(
        f"not {wanted.upper()} text",
        where=f"{path.name}:{line}",
        todo=f"convert it to UTF-8, or name its encoding, perhaps --set collection.encoding={_guess(sample)}",
    )


def _guess(sample: bytes) -> str:
    """Guess the encoding of bytes that are no UTF-8: cp1252 for Latin letters, where charset_normalizer often errs."""
    best = charset_normalizer.from_bytes(sample).best()
    latin = b"\0" not in sample and sum(byte >= 0x80 for byte in sample) < _LATIN * len(sample)
    return "cp1252" if latin or best is None or best.encoding in ("utf_8", "ascii") else best.encoding


def _decodes(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
