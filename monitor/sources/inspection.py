"""One pass over a whole dropped file before any row of it counts: its content's hash, and whether it can be used."""

import codecs
import gzip
import hashlib
import os
import time
import unicodedata
import zlib
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from monitor.posts import MAX_RAW_BYTES
from monitor.sources.csv_rows import BOM, Header, UnusableHeader, rows_of

CHUNK_BYTES = 1 << 20
MAX_NUL_SHARE = 0.2  #: text has hardly any NUL bytes, UTF-16 has them in every second place
BOMB_BYTES = 256 << 20  #: from here on a gzip file may not have grown more than BOMB_RATIO times
BOMB_RATIO = 200  #: exports compress 3 to 20 times; deflate reaches 1032 on zeros
MAX_HEADER_BYTES = 1 << 20
UTF_16_BYTES = 65_536  #: that are looked at
MAX_STRANGE_SHARE = 0.02  #: of signs that are none, or are newer than the Unicode of this Python, in a text

#: first bytes of what people drop by mistake
GZIP_MAGIC = b"\x1f\x8b"
_MAGIC = (
    (b"PK\x03\x04", "it is a workbook or a zip archive, not text; export it as CSV UTF-8"),
    (GZIP_MAGIC, "it is compressed; name it .csv.gz"),
    (b"PAR1", "it is a Parquet file, not text; export it as CSV UTF-8"),
)


class Unusable(Exception):  # noqa: N818 - a verdict on the file, told to its owner in a report
    """The file cannot be used; the message is a sentence for its owner."""


def open_content(path: Path) -> BinaryIO:
    """The decompressed bytes of a dropped file; never follows a symbolic link."""
    file = _open(path)
    return cast("BinaryIO", _Unpacked(file)) if path.name.lower().endswith(".gz") else file


class _Unpacked(gzip.GzipFile):
    """Closes the compressed file with it, which GzipFile does not do for a file that was given to it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


class Inspection:
    """The pass, in steps so that a huge file does not keep its source from anything else."""

    def __init__(self, path: Path, theirs: dict[str, str], bomb_bytes: int = BOMB_BYTES) -> None:
        """`theirs` maps our field names to the file's columns. May raise OSError."""
        self.path = path
        self.sha256 = ""  # of the decompressed content, once the pass is over
        self.verdict: str | None = None  # why the file cannot be used
        self._theirs = theirs
        self._bomb_bytes = bomb_bytes
        self._content = open_content(path)
        self._n_packed_bytes = path.lstat().st_size
        self._digest = hashlib.sha256()
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._n_bytes = self._n_nul = self._n_lf = self._n_cr = 0

    def advance(self, until: float) -> bool:
        """Read on until `until` (monotonic seconds), at least one chunk; True once `verdict` and `sha256` stand."""
        if self.sha256:
            return True
        if self.verdict is None:
            try:
                while self._read_chunk():
                    if time.monotonic() >= until:
                        return False
                self._check_whole()
            except Unusable as unusable:
                self._begin_digest_of_file(str(unusable))
        if self.verdict is not None and not self._digest_on(until):
            return False
        self.sha256 = self._digest.hexdigest()
        self.close()
        return True

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._content.close()

    def _read_chunk(self) -> bool:
        try:
            chunk = self._content.read(CHUNK_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise Unusable(self._no_gzip()) from None
        if self._n_bytes == 0:
            _check_beginning(chunk)
        self._n_nul += chunk.count(0)
        self._n_bytes += len(chunk)
        self._check_size()
        self._decode(chunk)
        self._n_lf += chunk.count(b"\n")
        self._n_cr += chunk.count(b"\r")
        self._digest.update(chunk)
        return bool(chunk)

    def _no_gzip(self) -> str:
        with _open(self.path) as file:
            if file.read(2) == GZIP_MAGIC:
                return "it is not a whole gzip file; it may have been cut short on the way"
        return "it is not compressed, though its name ends in .gz; name it .csv, or compress it"

    def _begin_digest_of_file(self, verdict: str) -> None:
        """What cannot be used is known by the bytes as they lie there; they may be many, too."""
        self.verdict = verdict
        self._content.close()
        self._content = _open(self.path)
        self._digest = hashlib.sha256()

    def _digest_on(self, until: float) -> bool:
        while chunk := self._content.read(CHUNK_BYTES):
            self._digest.update(chunk)
            if time.monotonic() >= until:
                return False
        return True

    def _check_size(self) -> None:
        if self._n_bytes and self._n_nul / self._n_bytes > MAX_NUL_SHARE:
            raise Unusable("it is not text")
        if self._n_bytes > self._bomb_bytes and self._n_bytes > BOMB_RATIO * self._n_packed_bytes:
            raise Unusable(f"it grows more than {BOMB_RATIO} times when decompressed")

    def _decode(self, chunk: bytes) -> None:
        try:
            self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = self._n_lf + error.object[: error.start].count(b"\n") + 1
            raise Unusable(
                f"it is not UTF-8: line {line} has a byte that does not belong; save it as CSV UTF-8"
            ) from None

    def _check_whole(self) -> None:
        if not self._n_lf and self._n_cr > 1:
            raise Unusable("its lines end with CR alone; save it with LF or CRLF line ends")
        with open_content(self.path) as content:
            row = next(rows_of(content, MAX_HEADER_BYTES), None)
        if row is None:
            raise Unusable("it is empty")
        if row.reason is not None:
            raise Unusable(f"its header row cannot be read: {row.detail}")
        try:
            Header(row.cells, self._theirs)
        except UnusableHeader as error:
            raise Unusable(str(error)) from None


def head_of(path: Path) -> tuple[bytes, bool]:
    """The first bytes of a file as it lies there, for its dead letter, and whether there are more."""
    with _open(path) as file:
        head = file.read(MAX_RAW_BYTES + 1)
    return head[:MAX_RAW_BYTES], len(head) > MAX_RAW_BYTES


def _open(path: Path) -> BufferedReader:
    """As it lies there: no symbolic link is followed, and no pipe waited for."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _check_beginning(chunk: bytes) -> None:
    if not chunk.removeprefix(BOM).strip():
        return  # perhaps empty: the end of the pass decides
    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unusable("it is UTF-16, not UTF-8; save it as CSV UTF-8" if _is_utf_16(chunk) else "it is not text")
    for magic, sentence in _MAGIC:
        if chunk.startswith(magic):
            raise Unusable(sentence)


def _is_utf_16(chunk: bytes) -> bool:
    """Whether the beginning reads as UTF-16 text: the two bytes alone begin other files too."""
    try:
        head = chunk[:UTF_16_BYTES]
        text = codecs.getincrementaldecoder("utf-16")("strict").decode(head, final=len(head) < UTF_16_BYTES)
    except UnicodeDecodeError:
        return False
    strange = sum(unicodedata.category(sign) in {"Cc", "Cn", "Co"} and sign not in "\t\r\n" for sign in text)
    return strange <= MAX_STRANGE_SHARE * len(text)
