"""Count of a message's parts on the wire, before protobuf makes an object of each.

An empty submessage takes two bytes on the wire and hundreds in memory: of 31 million, in
59 MiB, protobuf made 10 GB in half a minute. So they are counted first, by tags and lengths
(https://protobuf.dev/programming-guides/encoding/), and only as far as the bounds go.
"""

from functools import cache
from typing import cast

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)
# A varint has at most so many bytes, each with 7 bits.
_VARINT_BYTES = 10
# Numbers packed in a field are as many as its bytes at most: to be exact is worth it from here.
_MANY_BYTES = 64
_WIDTHS = {
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
    FieldDescriptor.TYPE_DOUBLE: 8,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
}
_OPAQUE = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

# By tag: the table of a submessage, or the bytes that each number of a packed field has,
# 0 where that differs. Strings and bytes are not in it.
Table = dict[int, "Table | int"]


class TooMany(Exception):
    """More parts or numbers than may be; the message says of what, and what to do."""


def check_parts(
    message_type: type[Message], data: bytes, *, max_parts: int, max_numbers: int
) -> None:
    """Raise TooMany if `data`, a message of that type, has more parts or numbers than may be.

    Each field that is set is a part, at any depth; numbers are those that lie packed in one.
    Stops where the bytes make no sense: so does the parser, which says why.
    """
    try:
        _check(cast(Descriptor, message_type.DESCRIPTOR), data, max_parts, max_numbers)
    except IndexError:
        return


def _check(descriptor: Descriptor, data: bytes, max_parts: int, max_numbers: int) -> None:
    table, end = _table(descriptor), len(data)
    outer: list[tuple[Table, int]] = []
    position = parts = numbers = top = 0
    while True:
        while position == end:
            if not outer:
                return
            table, end = outer.pop()
        tag, position = data[position], position + 1
        if tag > 127:
            tag, position = _varint(data, position - 1)
        if not outer:
            top = tag
        parts += 1
        if parts > max_parts:
            field = _name(descriptor, top)
            raise TooMany(f"{max_parts:,} parts, counted up to {field}: send less in each message")
        wire_type = tag & 7
        if wire_type == _LENGTH:
            # As _varint, without the call: most are of one byte, and calls are half the time.
            length, start = data[position], position + 1
            if length > 127:
                length, start = _varint(data, position)
            position = start + length
            if position > end:
                return
            inner = table.get(tag)
            if isinstance(inner, dict):
                outer.append((table, end))
                table, end, position = inner, position, start
            elif inner is not None:
                numbers += _packed(data, start, length, inner)
                if numbers > max_numbers:
                    field = _name(descriptor, top)
                    raise TooMany(
                        f"{max_numbers:,} numbers in {field}: send less in each message, or bytes, "
                        "as in raw_input_contents"
                    )
        elif wire_type == _VARINT:
            _, position = _varint(data, position)
        elif wire_type == _FIXED32:
            position += 4
        elif wire_type == _FIXED64:
            position += 8
        # What is inside a group, which no message here has, counts as if it were outside.
        elif wire_type not in (_GROUP, _GROUP_END):
            return
        if position > end:
            return


@cache
def _table(descriptor: Descriptor) -> Table:
    return {
        field.number << 3 | _LENGTH: _table(field.message_type)
        if field.message_type
        else _WIDTHS.get(field.type, 0)
        for field in descriptor.fields
        if field.type not in _OPAQUE
    }


def _packed(data: bytes, start: int, length: int, width: int) -> int:
    """Return how many numbers lie in a field, or a little more."""
    if width:
        return length // width
    if length < _MANY_BYTES:
        return length
    # The last byte of a varint is the one without the highest bit.
    return int(np.count_nonzero(np.frombuffer(data, np.int8, length, start) >= 0))


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a varint, and where it ends. Raises IndexError if it is none."""
    value = data[position]
    if value < 128:
        return value, position + 1
    value &= 127
    for shift in range(7, 7 * _VARINT_BYTES, 7):
        position += 1
        byte = data[position]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position + 1
    raise IndexError("no varint")


def _name(descriptor: Descriptor, tag: int) -> str:
    field = descriptor.fields_by_number.get(tag >> 3)
    return field.name if field else f"field {tag >> 3}"
