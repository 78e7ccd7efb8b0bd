"""BudgetKeeper: under budget the weight grows, over budget it falls, and a day's balance ends at midnight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.control.budget import AIM, GAIN, BudgetKeeper
from clover_rl.errors import InputError

ROW = np.zeros(1, np.intp)


def keeper(budget: float = 0.01) -> BudgetKeeper:
    made = BudgetKeeper(1, budget, 0.01, 0.3)
    made.reset()
    return made


def update(made: BudgetKeeper, loss: float, answered: float = 100.0, hour: float = 1.0) -> float:
    made.update(ROW, np.array([loss]), np.array([answered]), np.array([hour]))
    return float(made.w[0])


def test_it_begins_in_the_middle_and_follows_what_is_lost() -> None:
    made = keeper()
    middle = float(made.w[0])
    assert middle == pytest.approx((0.01 * 0.3) ** 0.5)
    under = update(made, 0.0)
    assert under > middle
    for _ in range(30):
        over = update(made, 0.05)
    assert over < under


def test_a_loss_at_what_is_aimed_at_leaves_the_weight() -> None:
    made = keeper()
    for _ in range(60):
        update(made, AIM * 0.01)
    settled = float(made.w[0])
    assert update(made, AIM * 0.01) == pytest.approx(settled, rel=1e-6)


@pytest.mark.parametrize("budget", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_day_loses_nearly_its_budget_and_no_more(budget: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = keeper(budget)
    lost = served = 0.0
    days = []
    for step in range(6 * 288):
        hour = (step + 1) / 12.0
        load = 1e4 * (1.0 + 0.8 * np.sin(2.0 * np.pi * (hour - 9.0) / 24.0)) * rng.lognormal(0.0, 0.2)
        # losses grow with the weight, are higher when the air is dirty, and come in jumps of whole variants
        dirty = 1.0 + 0.6 * np.sin(2.0 * np.pi * (hour - 15.0) / 24.0)
        wanted = 0.04 * dirty * (made.w[0] / 0.3) * rng.lognormal(0.0, 0.1)
        loss = np.floor(wanted / 0.002) * 0.002
        update(made, loss, load, hour % 168.0)
        lost, served = lost + loss * load, served + load
        if step % 288 == 287:
            days.append(lost / served / budget)
            lost = served = 0.0
    assert max(days) <= 1.0
    assert min(days[1:]) > 0.9


def test_what_yesterday_lost_is_not_todays() -> None:
    made = keeper()
    for _ in range(50):
        update(made, 0.05, hour=23.0)
    low = float(made.w[0])
    after = [update(made, 0.0, hour=24.5 + step / 12.0) for step in range(12)]
    assert after[-1] > low


def test_requests_weigh_a_loss() -> None:
    few, many = keeper(), keeper()
    update(few, 0.0, 1000.0)
    update(many, 0.0, 10.0)
    assert update(few, 0.05, 10.0) > update(many, 0.05, 1000.0)


@given(
    st.lists(st.tuples(st.floats(-0.1, 1.0), st.floats(0.0, 1e6), st.floats(0.0, 168.0)), max_size=40),
    st.floats(0.001, 0.5),
)
def test_the_weight_stays_within_its_bounds_and_moves_slowly(
    steps: list[tuple[float, float, float]], budget: float
) -> None:
    made = keeper(budget)
    before = float(made.w[0])
    for step in steps:
        after = update(made, *step)
        assert 0.01 <= after <= 0.3
        assert abs(np.log(after / before)) <= GAIN * (1 + 1e-9)
        before = after


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1, float("nan")])
def test_a_budget_that_is_no_share_is_refused(budget: float) -> None:
    with pytest.raises(InputError, match="accuracy budget"):
        BudgetKeeper(1, budget, 0.01, 0.3)
