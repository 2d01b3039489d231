"""Readers of AEDAT files, versions 2.0 (of a DVS128) and 3.1.

Both formats: iniVation's documentation, "AEDAT file formats".
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np


class SensorEvents(NamedTuple):
    """Events ``[E]`` as they lie in the file: times in microseconds of the sensor's clock, column, row, polarity."""

    times_us: np.ndarray
    x: np.ndarray
    y: np.ndarray
    polarity: np.ndarray


_END_OF_HEADER = b"#!END-HEADER\r\n"
_PACKET = struct.Struct("<hhiiiiii")  # type, source, size, place of the time, overflows, capacity, number, valid
_POLARITY = 1
_POLARITY_BYTES = 8


def read_aedat31(path: Path) -> SensorEvents:
    """Read the valid polarity events of an AEDAT 3.1 file; packets of other types are skipped.

    A packet has a header of 28 bytes and events of one type. A polarity event is two little-endian 32-bit words: bit 0
    of the first says that it is valid, bit 1 is its polarity, bits 2-16 are y, bits 17-31 are x; the second is its time
    in microseconds, to which the packet's number of overflows adds multiples of 2^31.

    tonic 1.7 has a reader for this, ``read_dvs_ibm``, which fails on every file.

    Raises:
        ValueError: the file is not that, or is truncated.
    """
    content = path.read_bytes()
    place = content.find(_END_OF_HEADER) + len(_END_OF_HEADER)
    if not content.startswith(b"#!AER-DAT3.1\r\n") or place < len(_END_OF_HEADER):
        raise ValueError("it is no AEDAT 3.1 file")
    words = [np.empty((0, 2), np.uint32)]
    overflows = [np.empty(0, np.int64)]
    while place < len(content):
        if len(content) < place + _PACKET.size:
            raise ValueError("it ends within the header of a packet")
        kind, _, size, _, overflow, _, number, _ = _PACKET.unpack_from(content, place)
        place += _PACKET.size
        if number < 0 or size < 1 or (kind == _POLARITY and size != _POLARITY_BYTES):
            raise ValueError(f"a packet of type {kind} has {number} events of {size} bytes")
        if len(content) < place + number * size:
            raise ValueError("it ends within a packet")
        if kind == _POLARITY:
            words.append(np.frombuffer(content, "<u4", 2 * number, place).reshape(number, 2))
            overflows.append(np.full(number, overflow, np.int64))
        place += number * size
    data, times = np.concatenate(words).T
    valid = (data & 1).astype(bool)
    data, times_us = data[valid], (times + (np.concatenate(overflows) << 31))[valid]
    return SensorEvents(times_us, data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1)


_EXTERNAL = 1 << 15
_ADDRESS_BYTES = 8


def read_aedat2(path: Path) -> SensorEvents:
    """Read the events of a DVS128 from an AEDAT 2.0 file.

    An event is two big-endian 32-bit words: an address, whose bit 0 is the polarity, bits 1-7 are x and bits 8-14 are
    y, counted from the lower left corner, and a time in microseconds. Row 0 is the upper one in what is returned. Bit
    15 marks external events, which are left out.

    Raises:
        ValueError: the file is not that, or is truncated.
    """
    from tonic.io import get_aer_events_from_file

    content = path.read_bytes()
    if not content.startswith(b"#!AER-DAT2.0"):
        raise ValueError("it is no AEDAT 2.0 file")
    start = 0
    while content.startswith(b"#", start):
        start = content.index(b"\n", start) + 1
    if (len(content) - start) % _ADDRESS_BYTES:
        raise ValueError("it ends within an event")
    events = get_aer_events_from_file(str(path), 2.0, start)
    address, times_us = (events[name].astype(np.int64) for name in ("address", "timeStamp"))
    if address.size and address.max() >= 2 * _EXTERNAL:
        raise ValueError(f"the address {address.max()} is none of a DVS128")
    own = address < _EXTERNAL
    address, times_us = address[own], times_us[own]
    return SensorEvents(times_us, address >> 1 & 0x7F, 127 - (address >> 8 & 0x7F), address & 1)
