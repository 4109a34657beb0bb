"""Ways to damage a valid file: as a disk or an editor would, and as somebody who means harm."""

import copy
import io
import json
import pickle
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from optstudy.records.arrays import to_npz

Mutation = Callable[[random.Random, bytes], bytes]

MARKER = "ran"  # a file that code of an input would write
EVIL = f"open({MARKER!r}, 'w').close()\n\n\ndef make(*_, **__):\n    open({MARKER!r}, 'w').close()\n"  # as evil.py
CODE = ("evil", "evil:make", "evil.py:make", "evil.make", "./evil.py:make", "os:system", "builtins.eval")
STRINGS = (*CODE, "", "../../evil", "a\0b", "\ud800", "x" * 5000, "-1", "nan", "é\n\x1b[31m")
NUMBERS = (-1, 0, 1, 2, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.5, -0.0, 1e308, 5e-324)
VALUES: tuple[Any, ...] = (
    *(None, True, False, float("nan"), float("inf"), -float("inf"), [], {}, [[]], [None, 1, ""], {"": {}}),
    *STRINGS,
    *NUMBERS,
)
DEPTH = 10_000


class Evil:
    """Writes the marker when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (MARKER, "w")


def damage(draw: random.Random, data: bytes) -> bytes:
    """Flip, cut, insert, repeat or overwrite bytes."""
    at, other = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    flipped = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8)) * bool(data)):
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    noise = draw.randbytes(draw.randrange(40))
    return draw.choice(
        (
            bytes(flipped),
            bytes(flipped),
            data[:at],
            data[at:],
            data[:at] + data[other:],
            data[:other] + data[at:],
            data[:at] + noise + data[at:],
            data[:at] + noise + data[other:],
            data[:at] + bytes(other - at) + data[other:],
            data + data,
            b"",
            noise,
            b"\xff\xfe" + data,
            b"\xef\xbb\xbf" + data,
        )
    )


def change_json(draw: random.Random, data: bytes) -> bytes:
    """Remove, rename, retype or nest parts of a JSON file."""
    content = copy.deepcopy(json.loads(data))
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        content = _change(draw, content)
    text = json.dumps(content, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.2:
        text = _change_text(draw, text)
    return text.encode(errors="surrogatepass")


def _change(draw: random.Random, content: Any) -> Any:
    places = list(_places(content))
    if not places or draw.random() < 0.02:
        return draw.choice(VALUES)
    holder, key = draw.choice(places)
    what = draw.randrange(5)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[draw.choice((*STRINGS, f"{key}s", f"{key}"[:-1]))] = holder.pop(key)
    elif what == 2:
        holder[key] = draw.choice(([holder[key]], {"x": holder[key]}))
    else:
        holder[key] = draw.choice(VALUES)
    return content


def _places(content: Any) -> Any:
    """Yield each list or object in a JSON value with each of its indices or names."""
    if isinstance(content, dict | list):
        for key, item in list(content.items() if isinstance(content, dict) else enumerate(content)):
            yield content, key
            yield from _places(item)


def _change_text(draw: random.Random, text: str) -> str:
    """Write what a JSON encoder would not: deep nesting, names twice, numbers beyond all types, constants."""
    values = list(re.finditer(r"-?\d[\d.e+-]*|null|true|\"[^\"\\]*\"", text))
    if not values:
        return "[" * DEPTH
    value = draw.choice(values)
    nested = draw.choice(
        ("[" * DEPTH + "]" * DEPTH, '{"a":' * DEPTH + "1" + "}" * DEPTH, "[" * 300 + "]" * 300)
    )
    new = draw.choice(
        (nested, "1e999", "-1e999", "9" * 400, "9" * 5000, "NaN", "Infinity", "0x1", "01", "'a'")
    )
    twice = text.replace("{", '{"a": 1, "a": 2, ', 1)
    return draw.choice((text[: value.start()] + new + text[value.end() :], nested, twice))


def change_toml(draw: random.Random, data: bytes) -> bytes:
    """Remove, repeat or change lines of a TOML file."""
    lines = data.decode().splitlines()
    values = [
        *map(_toml, VALUES),
        "[" * DEPTH + "]" * DEPTH,
        "9" * 5000,
        "1e999",
        "1979-05-27",
        "07:32:00",
        "[1, ",
        "{}",
    ]
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(lines))
        name, equals, _ = lines[at].partition("=")
        new = draw.choice(
            (
                f"{name}= {draw.choice(values)}" if equals else lines[at],
                f"{name}= {draw.choice(values)}" if equals else f"[{draw.choice(CODE)}]",
                f"{draw.choice(('evil', 'lr', '', 'a.' * DEPTH + 'a', name * 2))} = {draw.choice(values)}",
                "",
                draw.choice(lines),
                "[search.evil]",
                f"[{'a.' * DEPTH}a]",
            )
        )
        lines[at : at + draw.randrange(2)] = [new]
    return "\n".join(lines).encode(errors="surrogatepass")


def _toml(value: Any) -> str:
    return "''" if value is None else json.dumps(value) if not isinstance(value, float) else repr(value)


def change_lines(draw: random.Random, data: bytes) -> bytes:
    """Change lines of a list of numbers."""
    lines = data.decode().splitlines()
    for _ in range(draw.choice((1, 2, 5))):
        new = draw.choice(
            (*map(str, NUMBERS[:-4]), "9" * 5000, "1.5", "٣", "²", "1,2", "nan", "\0", " ", "evil", lines[0])
        )
        lines.insert(draw.randrange(len(lines) + 1), new)
    return "\n".join(lines).encode()


def change_idx(draw: random.Random, data: bytes) -> bytes:
    """Change the header of an IDX file."""
    header = bytearray(data[:8])
    header[draw.randrange(8)] = draw.choice((0, 1, 7, 8, 9, 127, 255))
    sizes = b"".join(
        draw.choice((0, 1, 2, 2**31, 2**32 - 1)).to_bytes(4, "big") for _ in range(draw.randrange(70))
    )
    many = bytes([0, 0, 8, len(sizes) // 4]) + sizes
    return draw.choice((bytes(header) + data[8:], many, many + data[16:]))


def change_npz(draw: random.Random, data: bytes) -> bytes:
    """Drop, retype or reshape arrays, or write headers that claim more than there is."""
    with np.load(io.BytesIO(data)) as found:
        arrays: dict[str, Any] = dict(found)
    for _ in range(draw.choice((1, 1, 2))):
        if not arrays:
            break
        name = draw.choice(list(arrays))
        if draw.random() < 0.2:
            del arrays[name]
        else:
            arrays[name] = _change_array(draw, arrays[name])
    if draw.random() < 0.2 and arrays:
        return _forged(draw, to_npz(arrays))
    return to_npz(arrays)


def _change_array(draw: random.Random, array: Any) -> Any:
    flat = array.reshape(-1)
    types = ("f2", "f4", ">f8", "i1", ">i8", "u8", "c16", "M8[s]", "S3", "U7", "?", "V4", "O", "f8,i4")
    shape = draw.choice(
        ((), (0,), (1,), (3,), (2, 2), (0, 2), (1, 2, 3), flat.shape, (*flat.shape, 2), (1,) * 30)
    )
    others = [
        np.zeros(shape, draw.choice(types)),
        np.full(shape, draw.choice((np.nan, np.inf, -1.0, 1e308))),
        np.full(shape, draw.choice((-1, 2**62, 0))),
        np.array(draw.choice(CODE)),
        flat[: len(flat) // 2],
        array[..., None],
        array.T,
    ]
    if draw.random() < 0.1:
        return np.array([Evil()], dtype=object)
    return draw.choice(others)


def _forged(draw: random.Random, data: bytes) -> bytes:
    """Rewrite one array's header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        chosen = draw.choice(old.namelist())
        for name in old.namelist():
            new.writestr(name, _npy(draw) if name == chosen else old.read(name))
    return buffer.getvalue()


def _npy(draw: random.Random) -> bytes:
    shape = draw.choice(
        ("(1000000000000,)", "(1000000000000, 0)", "(-1,)", "(1.5,)", "'x'", "()", "(2, 1000000000000)")
    )
    kind = draw.choice(
        ("'<f8'", "'<U0'", "'|O'", "'|V0'", "'<U1000000000'", "'evil'", "[('a', '<f8')]", "None")
    )
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}"
    header = draw.choice((header, header, header[:-3], "(" * 5000, "__import__('evil')", f"{header} " * 3000))
    text, version = header.encode() + b"\n", draw.choice((1, 1, 1, 2, 3, 9))
    length = len(text).to_bytes(2 if version == 1 else 4, "little") if len(text) < 2**16 else b"\xff\xff"
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + bytes(draw.choice((0, 8, 80)))


def change_checkpoint(draw: random.Random, data: bytes) -> bytes:
    """Change the entries of a state_dict, or save objects in its place."""
    weights = torch.load(io.BytesIO(data), weights_only=True)
    content: Any = dict(weights)
    for _ in range(draw.choice((1, 1, 2))):
        name = draw.choice(list(content))
        found = content.pop(name)
        is_weight = isinstance(found, torch.Tensor) and any(found is value for value in weights.values())
        value: torch.Tensor = found if is_weight else torch.zeros(2)
        content[draw.choice((name, name, *CODE, 3, "a.b.c", "module.weight"))] = draw.choice(
            (
                *(draw.choice(VALUES), {"state": value}, value.double(), value.to(torch.complex64)),
                *(
                    value * float("nan"),
                    value.to_sparse(),
                    torch.zeros(1).expand(10**12),
                    value[..., None],
                ),
                *(value.to(torch.int8), torch.zeros(0), torch.empty(3, device="meta"), [value]),
            )
        )
    whole = draw.random()
    content = Evil() if whole < 0.05 else {"weights": Evil(), **content} if whole < 0.1 else content
    if whole > 0.97:
        return pickle.dumps(content) if draw.random() < 0.5 else pickle.dumps(Evil())
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=draw.random() < 0.8)
    return buffer.getvalue()


def change_safetensors(draw: random.Random, data: bytes) -> bytes:
    """Change the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    header = change_json(draw, data[8 : 8 + length])
    claimed = draw.choice((len(header), len(header), len(header), 2**40, 0, len(header) - 1))
    return claimed.to_bytes(8, "little") + header + data[8 + length :]


def mixed(*mutations: Mutation) -> Mutation:
    """Apply one of several mutations, and sometimes damage bytes as well."""

    def mutate(draw: random.Random, data: bytes) -> bytes:
        if draw.random() < 0.3:
            return damage(draw, data)
        changed = draw.choice(mutations)(draw, data)
        return damage(draw, changed) if draw.random() < 0.1 else changed

    return mutate


def inputs(examples: Sequence[bytes], mutate: Mutation, seed: int, count: int) -> Any:
    """Yield inputs, each a change of one of the examples."""
    draw = random.Random(seed)  # noqa: S311  # no secret
    for _ in range(count):
        yield mutate(draw, draw.choice(examples))
