"""What a converter is, for the codecs: they do the common values of known kinds themselves."""

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
