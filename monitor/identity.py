"""What makes a post count once: its key.

A key is a hash of the identity, with what orders it in front: keys of posts that come together then lie together in the
index, a batch touches few of its pages, and its cost does not grow with the table. Ids that say nothing of time (random
UUIDs) still count once, at the price of a page for each post.
"""

from datetime import datetime
from hashlib import blake2b
from itertools import islice

from monitor.posts import Place

ORDER_CHARS = 12  #: of an id are in front of the hash


def key_of_id(id_space: str, brand: str, id_: str) -> str:
    """The key of a record with an id: it counts once in its id_space and brand."""
    return f"{_order_of_id(id_)}-{hash_of('id', id_space, brand, id_)}"


def key_of_message(id_space: str, place: Place, raw: bytes) -> str:
    """The key of a Kafka message without id: its place, and its bytes.

    Brokers that lost the end of a log give its offsets to other messages: those are other posts. A message that comes
    again has the same bytes, also where the configuration reads other fields of it by now, which its content_hash would
    take for another one.
    """
    bytes_hash = blake2b(raw, digest_size=16).hexdigest()
    identity = hash_of("kafka", id_space, place.stream, str(place.partition), str(place.offset), bytes_hash)
    return f"{place.offset:012x}-{identity}"


def key_of_row(id_space: str, brand: str, created_at: datetime, user_id: str | None, text: str, occurrence: int) -> str:
    """The key of a CSV row without id: its content, and its number among the equal rows of its file.

    `created_at` is in UTC.
    """
    moment = created_at.isoformat()
    minute = f"{moment[2:4]}{moment[5:7]}{moment[8:10]}{moment[11:13]}{moment[14:16]}"
    return f"{minute}-{hash_of('row', id_space, brand, moment, user_id or '', text, str(occurrence))}"


def content_hash_of(created_at: datetime, user_id: str | None, text: str) -> str:
    """16 hex digits that tell whether two records with the same id say the same."""
    return hash_of(created_at.isoformat(), "" if user_id is None else "u" + user_id, text)[:16]


def hash_of(*parts: str) -> str:
    """BLAKE2b-128 (RFC 7693) over the parts in 32 hex digits.

    Each part is preceded by its length, so that no two lists of parts collide.
    """
    framed = b""
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        framed += len(encoded).to_bytes(4, "big") + encoded
    return blake2b(framed, digest_size=16).hexdigest()


def _order_of_id(id_: str) -> str:
    """The first letters and digits behind its last / : or _, where addresses, typed and joined ids have what varies."""
    if not (id_.isascii() and id_.isalnum()):
        tail = id_[1 + max(id_.rfind(mark) for mark in "/:_") :]
        return "".join(islice((char for char in tail if char.isascii() and char.isalnum()), ORDER_CHARS))
    return id_[:ORDER_CHARS]
