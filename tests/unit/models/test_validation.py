from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from ctr.models.section import Section
from ctr.models.validation import instead_of, nearest, problems


class Leaf(Section):
    colour: Literal["red", "green"] = "red"
    size: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    share: Annotated[float, Field(gt=0, lt=0.5)] | None = None


class Whole(Section):
    name: Annotated[str, Field(pattern="^[a-z]+$", max_length=10)] = "a"
    leaf: Leaf = Leaf()
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = Field(default_factory=dict)
    widths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1,)
    on: bool = True
    either: Leaf | Literal["none"] = "none"

    @model_validator(mode="after")
    def _together(self) -> Whole:
        if self.name == "never":
            raise ValueError("never is no name")
        return self


def said(values: Any) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        Whole.model_validate(values)
    return problems(raised.value, Whole)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"leaf": {"sise": 2}}, "leaf.sise: unknown key; did you mean size? There are colour, size, share"),
        ({"leaf": {"zzz": 2}}, "leaf.zzz: unknown key; there are colour, size, share"),
        ({"leafs": {}}, "leafs: unknown key; did you mean leaf? There are name, leaf, leaves, by_name, widths"),
        # A key that stands elsewhere.
        ({"share": 0.1}, "share: unknown key; did you mean leaf.share or either.share?"),
        ({"leaves": [{}, {"x": 1}]}, "leaves.1.x: unknown key; there are colour, size, share"),
        ({"by_name": {"b": {"x": 1}}}, "by_name.b.x: unknown key; there are colour, size, share"),
        ({"leaf": {"colour": "gren"}}, "leaf.colour: must be one of red, green; did you mean green? (got 'gren')"),
        ({"leaf": {"colour": None}}, "leaf.colour: must be one of red, green (got None)"),
        ({"leaf": {"size": 0}}, "leaf.size: must be at least 1 and at most 1,000,000 (got 0)"),
        ({"leaf": {"size": "x"}}, "leaf.size: must be a whole number, at least 1 and at most 1,000,000 (got 'x')"),
        ({"leaf": {"share": 0.5}}, "leaf.share: must be above 0 and below 0.5 (got 0.5)"),
        ({"leaf": 3}, "leaf: is no single value; give its parts, e.g. leaf.colour; there are colour, size, share"),
        ({"widths": []}, "widths: must have at least 1 item (has 0)"),
        ({"widths": [2, 0]}, "widths.1: must be at least 1 (got 0)"),
        ({"widths": 2}, "widths: must be a list such as [a, b] (got 2)"),
        ({"on": "maybe"}, "on: must be true or false (got 'maybe')"),
        ({"name": "A"}, "name: must match ^[a-z]+$ (got 'A')"),
        ({"name": "never"}, "configuration: never is no name"),
        # The members of a union are no keys.
        ({"either": {"sise": 2}}, "either.sise: unknown key; did you mean size? There are colour, size, share"),
    ],
)
def test_a_problem_says_what_there_is_or_must_be(values: Any, line: str) -> None:
    assert any(each.startswith(line) for each in said(values)), said(values)


def test_no_line_is_in_pydantics_words() -> None:
    values = {"leaf": {"sise": 1, "size": 0, "colour": 1, "share": "x"}, "on": 3, "name": 5, "widths": "x"}
    lines = said(values)
    assert len(lines) == len(set(lines)) == 7
    assert not [line for line in lines if "Input should" in line or "Extra inputs" in line]


def test_the_nearest_name_begins_like_the_wrong_one() -> None:
    assert nearest("dinn", ["dnn", "din", "dien"]) == "din"
    assert nearest("epochz", ["epochs", "seed"]) == "epochs"
    assert nearest("zzz", ["epochs", "seed"]) is None
    assert instead_of("x", []) == "there are none"
