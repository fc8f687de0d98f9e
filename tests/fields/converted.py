"""What the tests of all fields do: a value to its stored form and back, and errors that give nothing away."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest

from cacheorm import Field, ValidationError


def takes(field: Field[Any], value: Any, expected: Any) -> Any:
    """Check that a value is stored, held and read as ``expected``, type included; give the stored form."""
    stored = field.cache_value(value)
    converter = field.converter
    forms = [stored, msgpack.unpackb(msgpack.packb(stored))]
    if not isinstance(stored, bytes):
        forms.append(msgspec.json.decode(msgspec.json.encode(stored)))
    for found in [converter.canonical(value, converter.dump(value)), *map(field.python_value, forms)]:
        assert found == expected
        assert type(found) is type(expected)
    return stored


def refuses(field: Field[Any], value: Any, message: str, reading: bool = False) -> None:
    """Check that a value is an error with this text, which holds nothing of the value."""
    convert = field.python_value if reading else field.cache_value
    with pytest.raises(ValidationError) as caught:
        convert(value)
    assert message in str(caught.value)
    assert type(field).__name__ in str(caught.value)
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(caught.value)
