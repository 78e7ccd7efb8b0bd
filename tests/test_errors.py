"""Errors: one family, one clear sentence."""

from __future__ import annotations

import pickle

import pytest

from clover_rl import errors
from clover_rl.errors import CloverError, InputError


def test_the_sentence_says_where_what_and_what_to_do() -> None:
    error = InputError("key `w` is missing", where="scenario.yaml", fix="add it")
    assert str(error) == "scenario.yaml: key `w` is missing; add it"
    assert (error.what, error.where, error.fix) == ("key `w` is missing", "scenario.yaml", "add it")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (CloverError("no"), "no"),
        (CloverError("no", where="here"), "here: no"),
        (CloverError("no", fix="go"), "no; go"),
    ],
)
def test_place_and_remedy_may_be_left_out(error: CloverError, sentence: str) -> None:
    assert str(error) == sentence


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_caught_as_the_one_base(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, CloverError)
    assert kind.__doc__
    with pytest.raises(CloverError, match="here: broken"):
        raise kind("broken", where="here")


def test_errors_survive_the_way_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(InputError("broken", where="here", fix="mend it")))
    assert str(error) == "here: broken; mend it"
    assert error.where == "here"
