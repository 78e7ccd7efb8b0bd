"""Fit: interference and power laws of a profile from measured mixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.profile import Interference, Profile
from clover_rl.errors import InputError
from clover_rl.simulation.validation.measurements import Mix
from clover_rl.simulation.validation.replay import MixArrays

__all__ = ["fit_laws"]

Floats = NDArray[np.float64]

PRESSURE_EXPONENT = 0.7
PRESSURE_PRIOR = 0.0015
SENSITIVITY_PRIOR = 0.0002
"""Weights of what is taken for likely beforehand, per squared difference of logarithms, against the mean
squared relative error of one layout. A layout of two slices cannot tell a variant that presses from one that
is sensitive, so two things decide there: pressure goes with the power that a variant draws alone on the whole
card (to the exponent above, with which the fits of both applications on all layouts agree), and variants are
equally sensitive."""
START = 0.5
EXPONENTS = np.linspace(0.0, 1.0, 101)


def fit_laws(mixes: Sequence[Mix], profile: Profile) -> Profile:
    """The profile with sensitivity, pressure and exponent of power fitted to some mixes.

    Least squares on the relative error of the slowdown, each layout with the same weight; then the exponent
    that makes the mean relative error of the power least. `own_exponent` stays the profile's: slices of one
    size say nothing about it.

    Raises:
        InputError: no law of neighbours in the profile, or no test with two or more busy instances.
    """
    law = profile.interference
    if law is None:
        raise InputError(f"profile `{profile.name}` has no law of neighbours to fit")
    own = law.own_exponent
    busy = [mix for mix in mixes if len(mix.instances) > 1]
    if not busy:
        raise InputError("there are no tests with two or more busy instances to fit to")
    tests = [MixArrays(mix, profile) for mix in busy]
    weights = _weights(busy)
    order = list(profile.application.variants)
    n = len(order)
    watts = np.array([profile.energy_j[v]["7g"] / profile.service_s[v]["7g"] for v in order])
    likely = PRESSURE_EXPONENT * np.log(watts / watts.mean())

    def residuals(x: Floats) -> Floats:
        sensitivity, pressure = np.exp(x[:n]), np.exp(x[n:])
        parts = [
            weight * (test.predicted_slowdown(sensitivity, pressure, own) / test.slowdown - 1.0)
            for test, weight in zip(tests, weights, strict=True)
        ]
        parts.append(np.sqrt(PRESSURE_PRIOR) * (x[n:] - likely))
        parts.append(np.sqrt(SENSITIVITY_PRIOR) * (x[:n] - x[:n].mean()))
        return np.concatenate(parts)

    found = _least_squares(residuals, np.concatenate([np.full(n, np.log(START)), likely]))
    sensitivity, pressure = np.exp(found[:n]), np.exp(found[n:])
    errors = np.zeros_like(EXPONENTS)
    for test, mix, weight in zip(tests, busy, weights, strict=True):
        slowdown = test.predicted_slowdown(sensitivity, pressure, own)
        for index, exponent in enumerate(EXPONENTS):
            miss = abs(test.predicted_w(slowdown, profile, float(exponent)) / mix.gpu_w - 1.0)
            errors[index] += weight**2 * len(mix.instances) * miss
    fitted = Interference(
        dict(zip(order, sensitivity.tolist(), strict=True)),
        dict(zip(order, pressure.tolist(), strict=True)),
        law.sms,
        law.gpu_sms,
        own,
    )
    exponent = float(EXPONENTS[int(np.argmin(errors))])
    return replace(profile, interference=fitted, power=replace(profile.power, slowdown_exponent=exponent))


def _weights(mixes: Sequence[Mix]) -> list[float]:
    """Square roots of weights of an instance of each mix; a layout's add up to 1."""
    count: dict[str, int] = {}
    for mix in mixes:
        count[mix.layout] = count.get(mix.layout, 0) + len(mix.instances)
    return [float(count[mix.layout] ** -0.5) for mix in mixes]


def _least_squares(residuals: Callable[[Floats], Floats], start: Floats) -> Floats:
    """Levenberg-Marquardt with a numerical Jacobian; a dozen unknowns, smooth residuals."""
    x, damping = start, 1e-3
    value = residuals(x)
    for _ in range(200):
        step = 1e-6
        jacobian = np.stack([(residuals(x + step * e) - value) / step for e in np.eye(len(x))], axis=1)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ value
        while damping < 1e9:
            change = -np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), gradient)
            tried = residuals(x + change)
            if tried @ tried < value @ value:
                break
            damping *= 4.0
        else:
            break
        x, value, damping = x + change, tried, damping / 3.0
        if np.abs(change).max() < 1e-9:
            break
    return x
