"""Variates: random numbers in blocks, written so that the compiler can make vector code of every loop.

The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"):
word i of a stream is a mix of state + (i + 1) x gamma, so no word waits for the one before. A state of four
words holds two streams, (state, gamma) of the arrivals and (state, gamma) of the services. Logarithm, sine
and exponential are polynomials with a relative error below 1e-11. No arithmetic may be fused or reordered, so
the same seed gives the same numbers on every machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clover_rl.simulation.kernel.bits import bits_of, float_of

__all__ = [
    "ARRIVALS",
    "SERVICES",
    "advance",
    "fill_exponential",
    "fill_lognormal",
    "fill_normal",
    "seed_state",
]

ARRIVALS, SERVICES = 0, 2
"""Where each stream's (state, gamma) begins in a generator state."""

_WORD = 0xFFFF_FFFF_FFFF_FFFF
_GOLDEN = 0x9E37_79B9_7F4A_7C15
_MIX_1, _MIX_2 = 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB
_U30, _U27, _U31, _U12, _U62, _U63, _ONE_U = (np.uint64(n) for n in (30, 27, 31, 12, 62, 63, 1))
_C1, _C2 = np.uint64(_MIX_1), np.uint64(_MIX_2)
_ONE = np.uint64(0x3FF0_0000_0000_0000)
_SQRT_HALF = 0x3FE6_A09E_667F_3BCD
_ROUND_BITS = 0x4338_0000_0000_0000
_ROUND = 6755399441055744.0  # 1.5 x 2^52: adding it leaves a rounded integer in the low bits
_LN2 = 0.6931471805599453
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_PER_LN2 = 1.4426950408889634
_QUARTER_PI = 0.7853981633974483


def _mixed(word: int) -> int:
    word = ((word ^ (word >> 30)) * _MIX_1) & _WORD
    word = ((word ^ (word >> 27)) * _MIX_2) & _WORD
    return word ^ (word >> 31)


def seed_state(seed: int) -> NDArray[np.uint64]:
    """Generator state from a seed: (state, gamma) of the arrivals, then of the services, shape (4,)."""
    seed = int(seed)  # a NumPy integer would overflow
    words = [_mixed((seed * _GOLDEN + (i + 1) * _GOLDEN) & _WORD) for i in range(4)]
    words = [_mixed(word ^ (seed & _WORD)) for word in words]
    for i in (1, 3):
        words[i] |= 1
        if (words[i] ^ (words[i] >> 1)).bit_count() < 24:  # too regular an increment mixes badly
            words[i] ^= 0xAAAA_AAAA_AAAA_AAAA
    return np.array(words, np.uint64)


@njit(cache=True, error_model="numpy")
def advance(rng: NDArray[np.uint64], stream: int, words: int) -> None:
    """Step a stream past the words that were used."""
    rng[stream] += np.uint64(words) * rng[stream + 1]


@njit(cache=True, error_model="numpy")
def _word(state: np.uint64, gamma: np.uint64, index: int) -> np.uint64:
    z = state + np.uint64(index + 1) * gamma
    z = (z ^ (z >> _U30)) * _C1
    z = (z ^ (z >> _U27)) * _C2
    return z ^ (z >> _U31)


@njit(cache=True, error_model="numpy")
def _minus_log(word: np.uint64) -> float:
    """-ln of a uniform in (0, 1] made of the word's upper 52 bits."""
    bits = bits_of(2.0 - float_of(np.int64((word >> _U12) | _ONE)))
    exponent = (bits - _SQRT_HALF) >> 52
    m = float_of(bits - (exponent << 52))
    s = (m - 1.0) / (m + 1.0)
    w = s * s
    series = 1 / 9 + w * (1 / 11 + w * (1 / 13))
    series = 1.0 + w * (1 / 3 + w * (1 / 5 + w * (1 / 7 + w * series)))
    return -((float_of(exponent + _ROUND_BITS) - _ROUND) * _LN2 + 2.0 * s * series)


@njit(cache=True, error_model="numpy")
def _exp(y: float) -> float:
    y = min(max(y, -700.0), 700.0)
    shifted = y * _PER_LN2 + _ROUND
    k = shifted - _ROUND
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW
    p = 1 / 720 + r * (1 / 5040 + r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800))))
    p = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * p)))))
    return float_of(bits_of(p) + (bits_of(shifted) << 52))


@njit(cache=True, error_model="numpy")
def fill_exponential(rng: NDArray[np.uint64], stream: int, skip: int, out: NDArray[np.float64]) -> None:
    """Exponential variates of mean 1 into `out`, from word `skip` on; the state stays (see `advance`)."""
    state, gamma = rng[stream], rng[stream + 1]
    for i in range(out.size):
        out[i] = _minus_log(_word(state, gamma, skip + i))


@njit(cache=True, error_model="numpy")
def fill_normal(rng: NDArray[np.uint64], skip: int, out: NDArray[np.float64]) -> None:
    """Standard normal variates into `out` (even size), from word `skip` (even) of the services' stream on.

    Box and Muller 1958 on an eighth of the circle; which eighth is drawn from bits the angle does not use.
    """
    state, gamma = rng[SERVICES], rng[SERVICES + 1]
    half = out.size // 2
    for i in range(half):
        radius = np.sqrt(2.0 * _minus_log(_word(state, gamma, skip + 2 * i)))
        word = _word(state, gamma, skip + 2 * i + 1)
        x = _QUARTER_PI * (2.0 * float_of(np.int64((word >> _U12) | _ONE)) - 3.0)
        w = x * x
        sine = 1 / 362880 - w * (1 / 39916800 - w * (1 / 6227020800))
        sine = x * (1.0 - w * (1 / 6 - w * (1 / 120 - w * (1 / 5040 - w * sine))))
        cosine = 1 / 40320 - w * (1 / 3628800 - w * (1 / 479001600 - w * (1 / 87178291200)))
        cosine = 1.0 - w * (1 / 2 - w * (1 / 24 - w * (1 / 720 - w * cosine)))
        cosine = float_of(bits_of(cosine) ^ np.int64((word & _ONE_U) << _U63))
        swap = word & np.uint64(2) != 0
        out[2 * i] = radius * (sine if swap else cosine)
        out[2 * i + 1] = radius * (cosine if swap else sine)


@njit(cache=True, error_model="numpy")
def fill_lognormal(normal: NDArray[np.float64], cv: float, out: NDArray[np.float64]) -> None:
    """Lognormal variates of mean 1 and coefficient of variation `cv` from standard normal ones."""
    variance = np.log(1.0 + cv * cv)
    sigma = np.sqrt(variance)
    for i in range(out.size):
        out[i] = _exp(sigma * normal[i] - 0.5 * variance)
