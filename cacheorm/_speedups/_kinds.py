"""What a converter is, for the codecs, which do the common values of known kinds themselves; the bounds of values."""

__all__ = [
    "INT_MAX",
    "INT_MIN",
    "KIND_BOOL",
    "KIND_BYTES",
    "KIND_DATE",
    "KIND_DATETIME",
    "KIND_DATETIME_TZ",
    "KIND_DECIMAL",
    "KIND_ENUM",
    "KIND_FLOAT",
    "KIND_INT",
    "KIND_JSON",
    "KIND_LIST",
    "KIND_OTHER",
    "KIND_STR",
    "KIND_TIME",
    "KIND_TIMESTAMP",
    "KIND_UUID",
    "MAX_DEPTH",
]

KIND_OTHER = 0
KIND_INT = 1
KIND_STR = 2
KIND_BOOL = 3
KIND_FLOAT = 4
KIND_ENUM = 5
KIND_DATETIME = 6
KIND_DATETIME_TZ = 7
KIND_DATE = 8
KIND_TIME = 9
KIND_UUID = 10
KIND_DECIMAL = 11
KIND_LIST = 12
KIND_JSON = 13
KIND_BYTES = 14
KIND_TIMESTAMP = 15

# The integers that msgpack has a form for.
INT_MIN = -(1 << 63)
INT_MAX = (1 << 64) - 1

MAX_DEPTH = 200
"""Levels of lists and dicts that a stored value may have; every serializer takes them, deep in a call too."""
