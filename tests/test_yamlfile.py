"""YAML files: whatever is wrong with one is said in one sentence with file, key and expectation."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from clover_rl.errors import InputError
from clover_rl.yamlfile import find_yaml, load_mapping, load_model, parse_yaml, validate_model


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = Field(ge=0)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: dict[str, Inner] = {}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.yaml"


def test_a_good_file_becomes_a_model(file: Path) -> None:
    file.write_text("name: ok\ninner:\n  a: {count: 3}\n")
    assert load_model(file, Outer) == Outer(name="ok", inner={"a": Inner(count=3)})


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("name: [1, 2\nother: 3\n", 2, "expected ',' or ']'"),
        ("name: ok\n  bad: indent\n", 2, "mapping values are not allowed here"),
        ("a: 1\nb: 2\nc: *nothing\n", 3, "found undefined alias"),
        ("a: 1\n\tb: 2\n", 2, "found character"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "could not determine a constructor"),
    ],
)
def test_bad_syntax_is_named_with_its_line(file: Path, text: str, line: int, what: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_mapping(file)
    assert str(caught.value).startswith(f"{file}:{line}: is not valid YAML: {what}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a", 1),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 1\n", 5, "c", 3),
        ("a: [{x: 1, x: 2}]\n", 1, "x", 1),
        ("a: 1\n'a': 2\n", 2, "a", 1),
        ("base: &b {a: 1}\nx: {<<: *b, <<: *b}\n", 2, "<<", 2),
    ],
)
def test_a_key_given_twice_is_named_with_both_lines(
    file: Path, text: str, line: int, key: str, first: int
) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_mapping(file)
    assert str(caught.value) == (
        f"{file}:{line}: is not valid YAML: key `{key}` is given twice, first in line {first}; mend that line"
    )


def test_a_merged_key_may_be_given_again(file: Path) -> None:
    file.write_text("base: &b {a: 1, c: 1}\nx: &x {<<: *b, a: 2}\ny: {<<: *x}\nz: {<<: *x, c: 3}\n")
    found = load_mapping(file)
    assert (found["x"], found["y"], found["z"]) == ({"a": 2, "c": 1}, {"a": 2, "c": 1}, {"a": 2, "c": 3})


def test_what_grows_beyond_measure_is_refused_at_once(file: Path) -> None:
    merged = ["a0: &a0 {k: 1}"] + [
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 20)}]}}" for n in range(1, 12)
    ]
    file.write_text("\n".join(merged))
    with pytest.raises(InputError, match="merge keys multiply beyond measure"):
        load_mapping(file)
    doubled = ["b0: &b0 [1]"] + [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 20)}]" for n in range(1, 12)]
    file.write_text("\n".join([*doubled, "name: *b11"]))
    with pytest.raises(InputError, match=r"key `name`: .* valid string \(found \[\[") as caught:
        load_model(file, Outer)
    assert len(str(caught.value)) < 300
    file.write_text("a: " + "[" * 5000)
    with pytest.raises(InputError, match="nested too deeply"):
        load_mapping(file)
    file.write_text("# " + "x" * (1 << 18))
    with pytest.raises(InputError, match="is larger than 256 KiB"):
        load_mapping(file)


def test_a_sentence_is_one_printable_line(file: Path) -> None:
    file.write_text('"na\\nme\\e[31m": 1\nname: x\n')
    with pytest.raises(InputError) as caught:
        load_model(file, Outer)
    assert str(caught.value) == f"{file}: unknown key `na\\nme\\x1b[31m`; correct that key"


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".yaml", "a\0b", "a\0b.yaml", "\n.yaml"])
def test_a_name_that_no_file_can_have_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"unknown thing|does not exist") as caught:
        find_yaml(name, tmp_path, "thing")
    assert str(caught.value).isprintable()


def test_a_text_that_is_no_file_names_where_it_stood() -> None:
    assert parse_yaml("[1, 2.5, x]", where="here") == [1, 2.5, "x"]
    with pytest.raises(InputError, match="here:1: is not valid YAML"):
        parse_yaml("[1", where="here")


@pytest.mark.parametrize(
    "text",
    ["day: 2021-13-45\n", "text: \x07\n", "a: !!bool x\n", "a: !!int ''\n", "a: !!timestamp x\n"],
)
def test_values_that_yaml_cannot_read_are_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match="is not valid YAML: ") as caught:
        load_mapping(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("- 1\n", "list"), ("word\n", "str")])
def test_a_file_without_keys_is_refused(file: Path, text: str, kind: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match=f"expected a mapping of keys, found {kind}; start the file with"):
        load_mapping(file)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(InputError, match="cannot be read \\(No such file or directory\\)") as caught:
        load_mapping(file)
    assert caught.value.where == str(file)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read \\(Is a directory\\)"):
        load_mapping(tmp_path)


def test_a_file_in_another_encoding_is_refused(file: Path) -> None:
    file.write_bytes("name: Zürich".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8 text; save it as UTF-8"):
        load_mapping(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "here: key `name` is missing; correct that key"),
        ({"name": "x", "nmae": 1}, "here: unknown key `nmae`; correct that key"),
        (
            {"name": "x", "inner": {"a": {"count": -1}}},
            "here: key `inner.a.count`: Input should be greater than or equal to 0 (found -1); "
            "correct that key",
        ),
        (
            {"name": "x", "inner": {"a": {"count": "many"}}},
            "here: key `inner.a.count`: Input should be a valid integer, unable to parse string as an "
            "integer (found 'many'); correct that key",
        ),
        ({"nmae": 1, "x": 2}, "here: key `name` is missing (and 2 more like it); correct that key"),
    ],
)
def test_a_wrong_key_is_named_with_what_was_expected(content: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        validate_model(content, Outer, where="here")
    assert str(caught.value) == sentence


def test_a_long_wrong_value_is_cut_short() -> None:
    with pytest.raises(InputError) as caught:
        validate_model({"name": list(range(1000))}, Outer, where="here")
    assert len(str(caught.value)) < 160
