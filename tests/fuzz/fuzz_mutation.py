"""Hypothesis strategies that damage real files, as a bad merge, an editor or an attacker does."""

from hypothesis import strategies as st

TOKENS = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\r", b"\n", b"\t", b"\n\n---\n",
    b"!!python/object/apply:os.system ['true']", b"&a [*a, *a]", b"*a", b"<<: *a", b"? [a]: b", b"- ", b": ",
    b"{", b"}", b"[", b"]", b"{{ x }}", b"{{ x.__class__ }}", b"{% for i in range(9) %}", b'"', b"'", b'"""',
    b"null", b"true", b"NaN", b"Infinity", b"-0", b"1e999", b"9" * 40, b"9007199254740993", b".inf", b"0x1f",
    b"2026-01-31", b"format: 99", b"sha256:" + b"0" * 64, b"[" * 400, b"{a: " * 400, b'{"a":' * 400,
    b"x" * 5000, b"../../etc/passwd", b"[tool.steelyard]", b"[tool]\nsteelyard = 3\n", b"tool = 3\n",
    b'"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]', "\u202e\u2028".encode(), b"PAR1",
)  # fmt: skip


@st.composite
def damaged(draw, seeds):
    """The bytes of one of the seeds after one to four pieces of damage."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from((0, 1, 2, 4, 16, 64, 400)))
        piece = draw(
            st.sampled_from(TOKENS)
            | st.binary(max_size=6)
            | st.just(b"")
            | st.just(data[at : at + length] * 2)
            | st.sampled_from(seeds).map(lambda other, n=length: other[: n + 1])
        )
        data = data[:at] + piece + data[at + length :]
    return data


def hostile_json(leaves=20):
    """Any JSON value, in which the words of our own formats turn up in wrong places."""
    words = st.sampled_from(
        ("format", "messages", "variables", "role", "content", "type", "default", "tools", "identity",
         "planned", "rows", "metrics", "name", "sha256:" + "0" * 64, "jinja", "{{ x }}", "../x", "",
         "lc", "secret")
    )  # fmt: skip
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=True, allow_infinity=True)
        | words
        | st.text(st.characters(codec="utf-8"), max_size=8)
    )
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=4), inner, max_size=5)
        ),
        max_leaves=leaves,
    )


@st.composite
def disturbed(draw, value):
    """A JSON value with one member somewhere replaced, dropped or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        kept = {k: v for k, v in value.items() if k != key}
        if draw(st.integers(0, 5)) == 0:
            return kept
        return kept | {key: draw(disturbed(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(disturbed(value[at])), *value[at + draw(st.integers(0, 1)) :]]
    return draw(hostile_json(6))
