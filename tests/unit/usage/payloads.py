"""Bodies of requests for the tests of keys, as JSON text: plausible ones with everything that can be odd about them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

SITE = "a0000000-0000-0000-0000-000000000001"

_KINDS = [
    *[("system", "heartbeat"), ("page", "view"), ("x", "page_view")] * 4,
    *[
        ("cta", "click"),
        ("click", ""),
        ("conversion", "call_intent"),
        ("page", "click"),
        ("click", "heartbeat"),
    ],
    *[("conversion", "phone_call"), ("interaction", "view"), ("Page", "Heartbeat"), ("", "")],
]
# What a script, a space, half a character, a separator of the pre-image or a number looks like in places where
# languages disagree.
_LETTERS = [
    *"aZ09:|,/?#&=%+-._\"\\'<>()[]{}",
    *"\t\n\v\f\r \x00\x1b\x1c\x1d\x1e\x1f\x7f\x85\u00a0\u1680\u180e\u2000\u200a\u200b\u2028\u2029\u202f\u205f\u2060",
    *"\u3000\ufeff\ufffd\uffffşğıİßéé٣３Σ中\U0001f600\U0001d11e\U0010ffff",
    *["\ud800", "\udbff", "\udc00", "\udfff", "\ud83d", "\ude00"],
]
_ODD = [
    *["null", "true", "false", "0", "1", "-1", "-0", "-0.0", "0.1", "1e21", "999999999999999999999", "1e-7"],
    *["0.000001", "123456789012345678901234", "1E400", "-1e400", "5e-324", "1.7976931348623157e308"],
    *["9007199254740993", "9" * 500, "[]", "{}", "[null]", "[[]]", '[1,[2,[null,true]],{"a":1},"x"]'],
    *['{"toString":1}', '{"valueOf":1}', '[{"toString":null}]', '{"__proto__":{"fp":"x","ts":1}}'],
    *['""', '" "', '"\\ufeff"', '"0"'],
]
_ZONES = {
    **{"Z": 0, "": 0, "z": 0, "+0000": 0, "+03:00": 180, "-0930": -570, "-23:59": -1439},
    **{"+24:00": 1440, "+3": 180, "+03": 180, "+03:0": 180, " Z": 0, "UTC": 0},  # no offsets, to V8
}


@dataclass(frozen=True, slots=True)
class Request:
    now_ms: int
    text: str


def requests(seed: int, count: int) -> Iterator[Request]:
    rnd = Random(seed)
    for _ in range(count):
        now_ms = _now(rnd)
        yield Request(now_ms, _body(rnd, now_ms))


def _now(rnd: Random) -> int:
    if rnd.random() < 0.85:
        now_ms = 1_700_000_000_000 + rnd.randrange(10**10)
    else:
        now_ms = rnd.choice([0, 10**12, -(10**12), 8_640_000_000_000_000]) + rnd.randrange(-(10**6), 1)
    if rnd.random() < 0.4:  # an edge of every window, and beside it
        now_ms = now_ms // 10_000 * 10_000 + rnd.choice([-1, 0, 1, 1999, 2000, 4999, 5000, 9999])
    return now_ms


def _body(rnd: Random, now_ms: int) -> str:
    if rnd.random() < 0.01:
        return rnd.choice(
            ["[]", "null", '"x"', "1", "", "{", "{'s':1}", '{"s":NaN}', "\ufeff{}", '{"s":"a"}x']
        )
    category, action = rnd.choice(_KINDS)
    fields = [
        ("s", _mostly(rnd, _quoted(rnd, "site"))),
        (rnd.choice(["url"] * 9 + ["u"]), _mostly(rnd, _quoted(rnd, _url(rnd)), 0.2)),
        ("ec", _mostly(rnd, _quoted(rnd, category))),
        ("ea", _mostly(rnd, _quoted(rnd, action))),
        ("el", _mostly(rnd, _quoted(rnd, _letters(rnd, 6)), 0.1)),
        ("sid", _mostly(rnd, _quoted(rnd, "sess" + _letters(rnd, 2)))),
    ]
    meta = [("fp", _mostly(rnd, _quoted(rnd, _letters(rnd, 4)), 0.2))]
    if rnd.random() < 0.3:
        meta.append(("ts", _time(rnd, now_ms)))
    fields.append(("meta", _mostly(rnd, _object(rnd, meta))))
    for name in ("ts", "timestamp", "created_at", "t"):
        if rnd.random() < 0.4:
            fields.append((name, _time(rnd, now_ms)))
    if rnd.random() < 0.15:
        fields.append(("u", _mostly(rnd, _quoted(rnd, _url(rnd)), 0.5)))
    if rnd.random() < 0.3:
        fields.append(("event_id", _mostly(rnd, _quoted(rnd, _letters(rnd, 5)), 0.2)))
    kept = [field for field in fields if rnd.random() > 0.03]
    if rnd.random() < 0.03 and kept:
        kept.append((rnd.choice(kept)[0], rnd.choice(_ODD)))  # a name that comes twice
    return _object(rnd, kept)


def _object(rnd: Random, fields: list[tuple[str, str]]) -> str:
    space = rnd.choice(["", "", " ", "\n"])
    return space + "{" + ",".join(f'"{name}":{space}{value}' for name, value in fields) + "}" + space


def _mostly(rnd: Random, usual: str, odd: float = 0.04) -> str:
    return rnd.choice(_ODD) if rnd.random() < odd else usual


def _quoted(rnd: Random, text: str) -> str:
    if rnd.random() < 0.1:
        text = rnd.choice([text + _letters(rnd, 2), _letters(rnd, 2) + text, text.upper()])
    return json.dumps(text, ensure_ascii=rnd.random() < 0.5)


def _letters(rnd: Random, most: int) -> str:
    return "".join(rnd.choices(_LETTERS if rnd.random() < 0.5 else "aZ09 :|", k=rnd.randint(0, most)))


def _url(rnd: Random) -> str:
    url = f"https://example.com/{_letters(rnd, 5)}"
    if rnd.random() < 0.08:  # to either side of the cut, and with characters of two units upon it
        url += "a" * (4090 - len(url)) + "".join(
            rnd.choices("a \U0001f600\ud83d\ude00é", k=rnd.randint(0, 12))
        )
    if rnd.random() < 0.05:
        url += "\U0001f600" * rnd.randint(2030, 2060)
    return _letters(rnd, 2) + url + _letters(rnd, 2) if rnd.random() < 0.3 else url


def _time(rnd: Random, now_ms: int) -> str:
    """A time as JSON, mostly one that is near enough to count."""
    away = rnd.choice(
        [rnd.randint(-400_000, 400_000), *(s * (300_000 + d) for s in (-1, 1) for d in (-1, 0, 1))]
    )
    near = now_ms + away
    form = rnd.randrange(9)
    if form == 0:
        return str(near)
    if form == 1:
        return repr(near / 1000)
    if form == 2:
        return f"{near}.{rnd.randrange(1000)}"
    if form == 3:
        return f"{near / 10**12:.15f}e12"
    if form == 4:
        return _double(rnd)
    if form == 5:
        return json.dumps(_number_text(rnd, near))
    if form == 6:
        return rnd.choice(_ODD)
    return json.dumps(_date_text(rnd, near))


def _double(rnd: Random) -> str:
    value = struct.unpack("<d", rnd.randbytes(8))[0]
    return repr(value) if value - value == 0 else "1e999"


def _number_text(rnd: Random, near: int) -> str:
    digits = rnd.choice(
        [str(near), str(near // 1000), f"{near / 1000}", f"{near}.9", f"{near / 1e12:.12f}e12"]
    )
    before = rnd.choice(["", "", "", "+", " ", "\ufeff", "\u2028 ", "\x1c", "\x85", "-", "+ ", "0x", "０"])
    after = rnd.choice(["", "", "", "ms", "e", "e+", "_000", ".", ".5.5", "Infinity", " 1", "٣", "\x00"])
    return rnd.choice(
        [before + digits + after] * 9 + ["Infinity", "-Infinity1", "infinity", "NaN", "", ".", "e5", ".5"]
    )


def _date_text(rnd: Random, near: int) -> str:
    zone = rnd.choice(["Z", "", *_ZONES])
    low, high = -62_135_424_000_000, 253_402_128_000_000  # what datetime holds, with two days to spare
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=min(max(near, low), high))
    at += timedelta(minutes=_ZONES[zone])
    # Up to nine decimals: versions of V8 differ beyond.
    decimals = f"{at.microsecond // 1000:03d}{rnd.randrange(10**6):06d}"[: rnd.choice([1, 2, 3, 3, 3, 6, 9])]
    text = f"{at.year:04d}-{at:%m-%dT%H:%M:%S}.{decimals}{zone}"
    change = rnd.randrange(12)
    if change == 0:
        text = f"{at.year:04d}-{at:%m-%dT%H:%M}{zone}"
    elif change == 1:
        text = f"{at.year:04d}-{at:%m-%dT%H:%M:%S}{zone}"
    elif change == 2:
        place = rnd.randrange(len(text))
        text = text[:place] + rnd.choice("0123456789TZ:-+. \x00x()") + text[place + 1 :]
    elif change == 3:
        text += rnd.choice([" ", "\x00", "\x00x", " (comment)", "x", "\n", " GMT"])
    elif change == 4:
        text = f"{at.year:04d}-{at:%m}-{rnd.randint(28, 32)}T{rnd.choice(['24:00', '24:00:00.000', '24:01', '23:60'])}{zone}"
    elif change == 5:
        text = rnd.choice(
            [text.replace("T", " "), text.lower(), text[1:], "+00" + text, f"{at:%a, %d %b %Y %H:%M:%S} GMT"]
        )
    return text
