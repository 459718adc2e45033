"""Codecs against NumPy and PyTorch, their error bounds, error feedback, and hostile payloads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dualshard.common import codec_kernels
from dualshard.common.codecs import (
    BLOCK,
    CODECS,
    PULLED,
    Codec,
    Encoded,
    Encoder,
    Lossy,
    TopK,
    decode,
    encode_values,
    encoded_bytes,
    make_codec,
)
from dualshard.common.sharding import Shards
from dualshard.common.types import Array, Float32

LOSSY = [name for name, codec in CODECS.items() if isinstance(codec, Lossy)]
SIZES = st.sampled_from([0, 1, 2, 255, 256, 257, 511, 512, 1000]) | st.integers(0, 1100)
INFO = np.finfo(np.float32)
EPS = 2.0**-24
"""The relative error of one rounded float32 operation."""


def drawn(size: int, seed: int = 0) -> Float32:
    """Normal numbers of very different sizes, some of them zero."""
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(-9, 4, size) * (rng.random(size) < 0.9)
    return (rng.standard_normal(size) * sizes).astype(np.float32)


def any_bits(size: int, seed: int = 0) -> Float32:
    """Each float32 is as likely as each other: huge, denormal, NaN and infinite ones too."""
    bits = np.random.default_rng(seed).integers(0, 2**32, size, dtype=np.uint32)
    return bits.view(np.float32)


def encode(codec: Codec, gradient: Float32, residual: Float32 | None = None) -> Encoded:
    return codec.encode(gradient, codec.buffers(gradient.size), residual)


def decoded(encoded: Encoded, size: int) -> Float32:
    """What the other end sees, after a trip as read-only bytes at any address."""
    payload, extra = (
        np.frombuffer(b"." + array.tobytes(), array.dtype, offset=1)
        for array in (encoded.payload, encoded.extra)
    )
    out = np.full(size, np.nan, np.float32)
    decode(encoded.name, payload, extra, out)
    return out


def round_trip(name: str, values: Float32, ratio: float = 0.01) -> Float32:
    encoded = encode(make_codec(name, ratio), values)
    assert encoded.finite
    assert encoded.nbytes == encoded_bytes(name, values.size, ratio)
    return decoded(encoded, values.size)


# ---- error bounds and oracles


@given(SIZES, st.integers(0, 99))
def test_f32_is_exact_and_copies_nothing(size: int, seed: int) -> None:
    gradient = drawn(size, seed)
    assert encode(CODECS["f32"], gradient).payload is gradient
    assert round_trip("f32", gradient).tobytes() == gradient.tobytes()


@given(SIZES, st.integers(0, 99))
def test_bf16_keeps_eight_bits(size: int, seed: int) -> None:
    x = drawn(size, seed).astype(np.float64)
    assert (np.abs(round_trip("bf16", x.astype(np.float32)) - x) <= 2.0**-8 * np.abs(x)).all()


@given(SIZES, st.integers(0, 99))
def test_f16_keeps_eleven_bits(size: int, seed: int) -> None:
    x = drawn(size, seed).astype(np.float64)
    bound = np.maximum(2.0**-11 * np.abs(x), 2.0**-25)
    assert (np.abs(round_trip("f16", x.astype(np.float32)) - x) <= bound).all()


@given(SIZES, st.integers(0, 99))
def test_int8_is_off_by_half_a_step_at_most(size: int, seed: int) -> None:
    x = drawn(size, seed)
    off = np.abs(round_trip("int8", x).astype(np.float64) - x)
    for begin in range(0, size, BLOCK):
        step = np.abs(x[begin : begin + BLOCK]).max() / 127
        assert off[begin : begin + BLOCK].max() <= step * (0.5 + 256 * EPS)


def test_each_half_is_read_and_written_as_numpy_does() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    nan, out = np.isnan(halves), np.empty(halves.size, np.float32)
    decode("f16", halves, np.empty(0, np.float32), out)
    assert np.isnan(out[nan]).all()
    assert out[~nan].tobytes() == halves[~nan].astype(np.float32).tobytes()
    payload = encode_values("f16", out, CODECS["f16"].buffers(out.size))
    assert np.isnan(payload[nan]).all()
    assert payload[~nan].tobytes() == halves[~nan].tobytes()


def test_f16_rounds_as_numpy_does_and_saturates() -> None:
    x = np.concatenate([any_bits(200_000), drawn(200_000), np.float32([65_519.9, 65_520, -7e4])])
    payload = encode_values("f16", x, CODECS["f16"].buffers(x.size))
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(np.float16)
    huge = np.isfinite(x) & np.isinf(expected)
    assert huge.any()
    expected[huge] = np.copysign(65_504, x[huge])
    nan = np.isnan(x)
    assert np.isnan(payload[nan]).all()
    assert payload[~nan].tobytes() == expected[~nan].tobytes()


@pytest.mark.parametrize(("name", "dtype"), [("f16", "float16"), ("bf16", "bfloat16")])
def test_sixteen_bits_equal_pytorch(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.concatenate([any_bits(200_000), drawn(200_000)])
    cast = torch.from_numpy(x).to(getattr(torch, dtype))
    inside = (torch.isfinite(cast) | ~torch.isfinite(torch.from_numpy(x))).numpy()
    inside &= ~np.isnan(x)
    payload = encode_values(name, x, CODECS[name].buffers(x.size))
    assert payload[inside].tobytes() == cast.view(torch.int16).numpy()[inside].tobytes()
    out = np.empty_like(x)
    decode(name, payload, np.empty(0, np.float32), out)
    assert out[inside].tobytes() == cast.float().numpy()[inside].tobytes()
    assert np.isnan(out[np.isnan(x)]).all()


def test_bf16_never_makes_a_finite_value_infinite() -> None:
    x = np.float32([INFO.max, INFO.min, 3.3961e38])
    assert (
        round_trip("bf16", x).tolist()
        == np.float32([3.3895314e38, -3.3895314e38, 3.3895314e38]).tolist()
    )


def test_int8_of_the_largest_and_the_smallest() -> None:
    x = np.zeros(5 * BLOCK, np.float32)
    x[0], x[BLOCK], x[2 * BLOCK] = INFO.max, INFO.smallest_subnormal, 1e-36
    x[3 * BLOCK], x[3 * BLOCK + 1] = 1.6e-36, -0.8e-36
    payload, scales = encode(CODECS["int8"], x).payload, encode(CODECS["int8"], x).extra
    assert payload[[0, 3 * BLOCK, 3 * BLOCK + 1]].tolist() == [127, 127, -64]
    assert scales[[1, 2, 4]].tolist() == [0, 0, 0]
    assert np.count_nonzero(payload) == 3
    y = round_trip("int8", x)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[[0, 3 * BLOCK]], x[[0, 3 * BLOCK]], rtol=3e-7)


def test_a_denormal_scale_of_a_peer_is_a_scale() -> None:
    out, scale = np.empty(2, np.float32), np.float32([1e-40])
    decode("int8", np.int8([3, -128]), scale, out)
    assert out.tolist() == (scale * np.float32([3, -128])).tolist()


def test_sizes_on_the_way() -> None:
    n = 262_144
    assert encoded_bytes("f32", n) == 4 * n
    assert encoded_bytes("f16", n) == encoded_bytes("bf16", n) == 2 * n
    assert encoded_bytes("int8", n) == n + 4 * 1024
    assert encoded_bytes("topk", n, 0.01) == 8 * 2621
    assert [encoded_bytes("topk", n, 0.01) for n in (0, 1, 149, 151)] == [0, 8, 8, 16]


# ---- top-k


def largest(x: Float32, k: int) -> list[int]:
    """Indices of the k largest magnitudes by a stable sort in float64."""
    order = np.argsort(-np.abs(x.astype(np.float64)), kind="stable")
    return sorted(order[:k].tolist())


def check_topk(x: Float32, ratio: float) -> None:
    codec = TopK(ratio)
    encoded = encode(codec, x)
    (k, _), indices = codec.lengths(x.size), encoded.extra
    assert indices.tolist() == largest(x, k)
    assert encoded.payload.tobytes() == x[indices].tobytes()
    expected = np.zeros_like(x)
    expected[indices] = x[indices]
    assert decoded(encoded, x.size).tobytes() == expected.tobytes()


@given(
    arrays.arrays(
        np.float32,
        st.integers(0, 600),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
        | st.sampled_from([0.0, -0.0, 1.0, -1.0]),
    ),
    st.floats(1e-3, 1),
)
def test_topk_equals_a_sort(x: Float32, ratio: float) -> None:
    check_topk(x, ratio)


@pytest.mark.parametrize("ratio", [1e-9, 1e-3, 0.01, 0.1, 0.5, 1])
def test_topk_of_a_whole_shard_equals_a_sort(ratio: float) -> None:
    x = drawn(262_144)
    check_topk(x, ratio)
    check_topk(np.round(x), ratio)  # many ties
    check_topk(np.ones_like(x), ratio)
    check_topk(np.nextafter(np.float32(1), x), ratio)  # they differ in the last bit alone
    check_topk(np.where(np.isfinite(bits := any_bits(262_144)), bits, np.float32(0)), ratio)


# ---- error feedback


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("size", [1, 255, 256, 257, 5000])
def test_what_was_sent_and_what_is_left_is_the_sum_of_all(name: str, size: int) -> None:
    codec, residual = make_codec(name), np.zeros(size, np.float32)
    sent, total, rounding = np.zeros(size), np.zeros(size), np.zeros(size)
    scale = drawn(size, 1)
    for step in range(100):
        gradient = scale * np.random.default_rng(step).standard_normal(size).astype(np.float32)
        total += gradient
        rounding += 4 * EPS * np.abs(residual.astype(np.float64) + gradient) + 1.5e-36
        sent += decoded(encode(codec, gradient, residual), size)
    assert (np.abs(sent + residual - total) <= rounding).all()
    if size > 1:
        assert (residual != 0).any()


@pytest.mark.parametrize("name", LOSSY)
@given(SIZES, st.integers(0, 99))
def test_feedback_sends_the_code_of_the_sum(name: str, size: int, seed: int) -> None:
    codec, gradient, residual = make_codec(name, 0.1), drawn(size, seed), drawn(size, seed + 1)
    x, before = gradient + residual, gradient.copy()
    gradient.flags.writeable = False
    fed = encode(codec, gradient, residual)
    plain = encode(codec, x)
    assert fed.payload.tobytes() == plain.payload.tobytes()
    assert fed.extra.tobytes() == plain.extra.tobytes()
    off = np.abs(residual - (x - decoded(fed, size)))
    assert (off <= 4 * EPS * np.abs(x)).all()
    assert gradient.tobytes() == before.tobytes()


def test_f16_keeps_what_is_beyond_its_range() -> None:
    residual = np.zeros(2, np.float32)
    encode(CODECS["f16"], np.float32([100_000, -7e4]), residual)
    assert residual.tolist() == [100_000 - 65_504, 65_504 - 7e4]


def test_a_block_that_fades_away_leaves_no_denormals() -> None:
    residual = np.zeros(BLOCK, np.float32)
    gradient = drawn(BLOCK)
    encode(CODECS["int8"], gradient, residual)
    for _ in range(40):
        encode(CODECS["int8"], np.zeros_like(gradient), residual)
    assert not residual.any()


@pytest.mark.parametrize("feedback", [True, False])
def test_only_with_feedback_does_topk_reach_the_optimum(feedback: bool) -> None:
    """Half of |w - a|², seen through samples that pull one coordinate to and fro by far more.

    One entry in eight is sent. Without feedback it is always the noisy one, and the others stay
    where they are.
    """
    optimum = np.float32([0, 1, -2, 0.5, 3, -1, 0.25, 2])
    encoder = Encoder(TopK(1 / 8), Shards(8), feedback)
    w, pull = np.zeros(8, np.float32), np.zeros(8, np.float32)
    for step in range(4000):
        pull[0] = 20 if step % 2 else -20
        encoded = encoder.encode(0, w - optimum + pull)
        w -= np.float32(1 / (10 + step)) * decoded(encoded, 8)
    away = float(np.linalg.norm(w - optimum))
    assert away < 0.05 if feedback else away > 4


# ---- NaN and infinity


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("name", CODECS)
def test_a_gradient_that_is_not_finite_shows_and_poisons_nothing(
    name: str, feedback: bool, bad: float
) -> None:
    encoder = Encoder(make_codec(name), Shards(1000), feedback)
    assert encoder.encode(0, drawn(1000)).finite
    kept, gradient = encoder.residual.copy(), drawn(1000, 1)
    gradient[777] = bad
    encoded = encoder.encode(0, gradient)
    assert not encoded.finite
    assert encoder.residual.tobytes() == kept.tobytes()
    if name == "int8":
        with pytest.raises(ValueError, match=r"^int8: a scale is NaN or infinite$"):
            decoded(encoded, 1000)
    elif name == "f32":
        assert not np.isfinite(decoded(encoded, 1000)[777])
    else:
        seen = decoded(encoded, 1000)
        assert np.isnan(seen[encoded.extra] if name == "topk" else seen).all()
    assert encoder.encode(0, drawn(1000, 2)).finite


@pytest.mark.parametrize("name", LOSSY)
def test_a_sum_that_overflows_is_not_finite(name: str) -> None:
    residual = np.full(300, 3e38, np.float32)
    assert not encode(make_codec(name), np.full(300, 3e38, np.float32), residual).finite
    assert residual.tolist() == [np.float32(3e38)] * 300


@pytest.mark.parametrize("name", PULLED)
def test_pulled_values_keep_their_nan_and_infinity_in_place(name: str) -> None:
    values = np.float32([1, np.nan, -np.inf, np.inf, -2])
    out = np.empty(5, np.float32)
    payload = encode_values(name, values, CODECS[name].buffers(5))
    decode(name, payload, np.empty(0, np.float32), out)
    assert np.array_equal(out, values, equal_nan=True)


def test_a_nan_in_its_low_bits_alone_stays_a_nan() -> None:
    values = np.uint32([0x7F800001, 0xFFFFFFFF]).view(np.float32)
    for name in ("f16", "bf16"):
        out = np.empty(2, np.float32)
        payload = encode_values(name, values, CODECS[name].buffers(2))
        decode(name, payload, np.empty(0, np.float32), out)
        assert np.isnan(out).all()


# ---- what a peer may send


NONE = np.empty(0, np.float32)


def refusal(name: str, payload: Array, extra: Array, out: Float32) -> str:
    """Why `decode` refuses, empty if it does not."""
    try:
        decode(name, payload, extra, out)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "payload", "extra", "why"),
    [
        ("f32", np.zeros(3), NONE, "payload is float64 (3,), expected float32 (3,)"),
        ("f32", np.zeros(3, ">f4"), NONE, "payload is >f4 (3,), expected float32 (3,)"),
        ("f16", np.zeros(4, "f2"), NONE, "payload is float16 (4,), expected float16 (3,)"),
        ("f16", np.zeros(3, "u2"), NONE, "payload is uint16 (3,), expected float16 (3,)"),
        ("bf16", np.zeros((3, 1), "u2"), NONE, "payload is uint16 (3, 1), expected uint16 (3,)"),
        (
            "bf16",
            np.zeros(3, "u2"),
            NONE[:, None],
            "extra is float32 (0, 1), expected float32 (0,)",
        ),
        ("int8", np.zeros(3, "i1"), NONE, "extra is float32 (0,), expected float32 (1,)"),
        ("int8", np.zeros(3, "i1"), np.float32([np.inf]), "a scale is NaN or infinite"),
        (
            "topk",
            np.zeros(2, "f4"),
            np.zeros(3, "u4"),
            "extra is uint32 (3,), expected uint32 (2,)",
        ),
        ("topk", np.zeros(2, "f4"), np.zeros(2, "i4"), "extra is int32 (2,), expected uint32 (2,)"),
        (
            "topk",
            np.zeros(4, "f4"),
            np.arange(4, dtype="u4"),
            "payload is float32 (4,), expected float32 (3,)",
        ),
        ("topk", np.zeros(2, "f4"), np.uint32([1, 1]), "the indices do not ascend"),
        ("topk", np.zeros(3, "f4"), np.uint32([2, 0, 1]), "the indices do not ascend"),
        ("topk", np.zeros(2, "f4"), np.uint32([0, 3]), "index 3 in a slice of 3 elements"),
        ("topk", NONE, np.zeros(0, "u4"), "nothing was kept"),
    ],
)
def test_what_is_no_code_is_refused_in_one_sentence(
    name: str, payload: Array, extra: Array, why: str
) -> None:
    out = np.full(3, 5, np.float32)
    assert refusal(name, payload, extra, out) == f"{name}: {why}"
    assert out.tolist() == [5, 5, 5]


def test_a_codec_that_nobody_knows_is_refused() -> None:
    sentence = "no codec 'zip', only f32, f16, bf16, int8, topk"
    assert refusal("zip", NONE, NONE, np.empty(0, np.float32)) == sentence


DTYPES = st.sampled_from(["f4", "f2", "u2", "i1", "u4", "i4", "f8", ">f4", "u1"])
SHAPES = st.integers(0, 8).map(lambda n: (n,)) | arrays.array_shapes(min_dims=0, max_side=3)


@given(
    st.sampled_from(sorted(CODECS)),
    arrays.arrays(DTYPES, SHAPES),
    arrays.arrays(DTYPES, SHAPES),
    st.integers(0, 8),
)
def test_nothing_that_a_peer_sends_writes_elsewhere(
    name: str, payload: Array, extra: Array, size: int
) -> None:
    vector = np.full(size + 20, 5, np.float32)
    out = vector[10 : 10 + size]
    if why := refusal(name, payload, extra, out):
        assert "\n" not in why
        assert (out == 5).all()
    else:
        assert payload.dtype == CODECS[name].payload_dtype
    assert (vector[:10] == 5).all()
    assert (vector[10 + size :] == 5).all()


@given(
    st.integers(1, 40).flatmap(
        lambda k: st.tuples(
            arrays.arrays(np.float32, k),
            arrays.arrays(np.uint32, k, elements=st.integers(0, 50), unique=True).map(np.sort),
        )
    ),
    st.integers(30, 60),
)
def test_only_indices_inside_the_slice_are_taken(code: tuple[Array, Array], size: int) -> None:
    vector = np.full(size + 60, 5, np.float32)
    out, (payload, extra) = vector[:size], code
    if refusal("topk", payload, extra, out):
        assert extra[-1] >= size or payload.size > size
        assert (out == 5).all()
    else:
        assert np.array_equal(out[extra], payload, equal_nan=True)
        assert not np.delete(out, extra).any()
    assert (vector[size:] == 5).all()


# ---- a lane's encoder


@pytest.mark.parametrize("name", LOSSY)
def test_shards_are_open_at_the_same_time_and_keep_their_own_residual(name: str) -> None:
    shards, codec = Shards(700, 300), make_codec(name, 0.1)
    encoder, gradient = Encoder(codec, shards, feedback=True), drawn(700)
    residuals = [np.zeros(end - begin, np.float32) for begin, end in map(shards.span, range(3))]
    for _ in range(3):
        opened = [encoder.encode(s, gradient[slice(*shards.span(s))]) for s in range(3)]
        for s, encoded in enumerate(opened):
            alone = encode(codec, gradient[slice(*shards.span(s))], residuals[s])
            assert encoded.name == name
            assert encoded.payload.tobytes() == alone.payload.tobytes()
            assert encoded.extra.tobytes() == alone.extra.tobytes()
    assert encoder.residual.tobytes() == b"".join(part.tobytes() for part in residuals)


@pytest.mark.parametrize("name", LOSSY)
def test_of_a_part_an_encoder_keeps_no_more_than_its_shards(name: str) -> None:
    shards, gradient = Shards(700, 300, starts=(0, 150)), drawn(700)
    whole = Encoder(make_codec(name, 0.1), shards, feedback=True)
    part = Encoder(make_codec(name, 0.1), shards, feedback=True, numbers=shards.of_part(1))
    for shard in [*shards.of_part(1)] * 2:
        piece = gradient[slice(*shards.span(shard))]
        one, other = whole.encode(shard, piece), part.encode(shard, piece)
        assert one.payload.tobytes() == other.payload.tobytes()
    assert part.residual.tobytes() == whole.residual[150:].tobytes()
    with pytest.raises(KeyError):
        part.encode(0, gradient[:150])


@pytest.mark.parametrize("name", LOSSY)
def test_an_encoder_allocates_once(name: str) -> None:
    encoder = Encoder(make_codec(name), Shards(700, 300), feedback=True)
    first = [encoder.encode(s, drawn(n)) for s, n in enumerate((300, 300, 100))]
    again = [encoder.encode(s, drawn(n)) for s, n in enumerate((300, 300, 100))]
    for one, other in zip(first, again, strict=True):
        assert one.payload is other.payload
        assert one.extra is other.extra


@pytest.mark.parametrize(("name", "feedback"), [*((name, False) for name in CODECS), ("f32", True)])
def test_without_feedback_nothing_is_kept(name: str, feedback: bool) -> None:
    encoder, gradient = Encoder(make_codec(name), Shards(300), feedback), drawn(300)
    first = decoded(encoder.encode(0, gradient), 300)
    assert decoded(encoder.encode(0, gradient), 300).tobytes() == first.tobytes()
    assert encoder.residual.size == 0


def test_each_kernel_is_compiled_once() -> None:
    """Arrays that are read-only, writable or unaligned all take the same machine code."""
    for name in CODECS:
        for writable in (True, False):
            gradient = drawn(300)
            gradient.flags.writeable = writable
            encoded = encode(make_codec(name), gradient)
            decode(name, encoded.payload, encoded.extra, np.empty_like(gradient))
            decoded(encoded, 300)
            if name in PULLED:
                encode_values(name, gradient, CODECS[name].buffers(300))
            if name in LOSSY:
                encode(make_codec(name), gradient, np.zeros_like(gradient))
    kernels = [f for f in vars(codec_kernels).values() if hasattr(f, "signatures")]
    called = [kernel for kernel in kernels if not kernel.__name__.startswith("_")]
    assert len(called) == 14
    assert {kernel.__name__ for kernel in called if len(kernel.signatures) != 1} == set()
