"""The one loop of the page that must be fast, as WebAssembly: a convolution at one cell, four numbers at a time.

In JavaScript alone the first kernel of a slice takes several times the 16 ms between two frames of a screen.

Source: W3C, "WebAssembly Core Specification 2.0", chapter 5, binary format.
"""

# Value types, and the type of a block that leaves nothing.
_I32, _V128, _NOTHING = 0x7F, 0x7B, 0x40

# Eight sums of four numbers stay in registers.
_SUMS = 8
_BYTES = 16
CHANNELS_AT_ONCE = _SUMS * 4

_PARAMETERS = ("input", "row_bytes", "rows", "taps", "weights", "bias", "added", "output", "groups", "relu")
_COUNTERS = ("row", "at", "end", "rows_left")
_LOCAL = {name: i for i, name in enumerate((*_PARAMETERS, *_COUNTERS, "value"))}
_FIRST_SUM = len(_LOCAL)


def module():
    """Assembles the module.

    It exports `memory`, one page large and growing, and
    `cell(input, row_bytes, rows, taps, weights, bias, added, output, groups, relu)`, all int32, places in bytes: for
    each of `groups` times 32 channels, `output = bias + sum over rows and taps of input * weights (+ added)`, where
    the input has `rows` runs of `taps` float32 that start `row_bytes` apart, weights lie as `(groups, rows, taps, 32)`,
    `added` is a place, or 0 for none, and `relu` other than 0 lifts negative sums to zero before anything is added.

    Returns:
        The module as bytes.
    """
    kinds = [_I32] * len(_PARAMETERS)
    body = _code()
    # Runs of locals of one type: the counters, then the value and the sums.
    declared = [*_number(2), *_number(len(_COUNTERS)), _I32, *_number(1 + _SUMS), _V128]
    function = [*declared, *body, 0x0B]
    sections = (
        (1, [1, 0x60, *_number(len(kinds)), *kinds, 0]),
        (3, [1, 0]),
        (5, [1, 0, 1]),
        (7, [2, *_name("memory"), 2, 0, *_name("cell"), 0, 0]),
        (10, [1, *_number(len(function)), *function]),
    )
    content = b"\0asm\1\0\0\0"
    for number, section in sections:
        content += bytes([number, *_number(len(section)), *section])
    return content


def _code():
    sums = range(_FIRST_SUM, _FIRST_SUM + _SUMS)
    return [
        *_loop(
            *(code for i, s in enumerate(sums) for code in (*_get("bias"), *_load(i), 0x21, s)),
            *_get("input"),
            *_set("row"),
            *_get("rows"),
            *_set("rows_left"),
            *_loop(
                *_get("row"),
                *_set("at"),
                *_get("row"),
                *_get("taps"),
                *(0x41, 2, 0x74),  # times 4
                0x6A,
                *_set("end"),
                *_loop(
                    *_get("at"),
                    *_simd(0x09),  # v128.load32_splat
                    *(2, 0),
                    *_set("value"),
                    *(
                        code
                        for i, s in enumerate(sums)
                        for code in (
                            *(0x20, s),
                            *_get("value"),
                            *_get("weights"),
                            *_load(i),
                            *_simd(0xE6),  # f32x4.mul
                            *_simd(0xE4),  # f32x4.add
                            *(0x21, s),
                        )
                    ),
                    *_advance("weights", _SUMS * _BYTES),
                    *_advance("at", 4),
                    *_get("at"),
                    *_get("end"),
                    *(0x49, 0x0D, 0),  # while at < end
                ),
                *_get("row"),
                *_get("row_bytes"),
                0x6A,
                *_set("row"),
                *_advance("rows_left", -1),
                *_get("rows_left"),
                *(0x0D, 0),
            ),
            *_if(
                "relu",
                *(
                    code
                    for s in sums
                    for code in (0x20, s, *_zero(), *_simd(0xE9), 0x21, s)  # f32x4.max
                ),
            ),
            *_if(
                "added",
                *(
                    code
                    for i, s in enumerate(sums)
                    for code in (0x20, s, *_get("added"), *_load(i), *_simd(0xE4), 0x21, s)
                ),
                *_advance("added", _SUMS * _BYTES),
            ),
            *(code for i, s in enumerate(sums) for code in (*_get("output"), 0x20, s, *_store(i))),
            *_advance("output", _SUMS * _BYTES),
            *_advance("bias", _SUMS * _BYTES),
            *_advance("groups", -1),
            *_get("groups"),
            *(0x0D, 0),
        )
    ]


def _loop(*code):
    return (0x03, _NOTHING, *code, 0x0B)


def _if(name, *code):
    return (*_get(name), 0x04, _NOTHING, *code, 0x0B)


def _get(name):
    return (0x20, _LOCAL[name])


def _set(name):
    return (0x21, _LOCAL[name])


def _advance(name, step):
    return (*_get(name), 0x41, *_signed(step), 0x6A, *_set(name))


def _simd(operation):
    return (0xFD, *_number(operation))


def _load(vector):
    # Alignment is a hint: 4 bytes hold for every place.
    return (*_simd(0x00), 2, *_number(vector * _BYTES))


def _store(vector):
    return (*_simd(0x0B), 2, *_number(vector * _BYTES))


def _zero():
    return (*_simd(0x0C), *(0,) * _BYTES)


def _name(text):
    return (len(text), *text.encode("ascii"))


def _number(value):
    """LEB128, unsigned."""
    code = []
    while value > 0x7F:
        code.append(value & 0x7F | 0x80)
        value >>= 7
    return (*code, value)


def _signed(value):
    """LEB128, signed."""
    code = []
    while not -0x40 <= value < 0x40:
        code.append(value & 0x7F | 0x80)
        value >>= 7
    return (*code, value & 0x7F)
