"""What functions return, and the scores that are made of it."""

import decimal
import importlib.util
from pathlib import Path

import numpy
import pytest

# By its path: the package needs the library, and this module alone does not.
spec = importlib.util.spec_from_file_location("scores", Path(__file__).parents[2] / "python/dagcore/_scores.py")
scores = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scores)

RIGHT = [
    [1, 2, 3], (1, 2, 3), range(1, 4), [True, 2.0, numpy.float16(3)], ["1", "2", "3"], [decimal.Decimal(1), 2, 3], [[1], [2], [3]],
    ((1,), (2,), (3,)), numpy.array([1, 2, 3]), numpy.array([[1], [2], [3]], numpy.float16), numpy.array([1, 2, 3], object),
    numpy.ma.array([1, 2, 3]), [numpy.array([1]), numpy.array([2]), numpy.array([3])], {"a": [1, 2, 3]}, {"a": numpy.array([[1], [2], [3]])},
]  # fmt: skip


@pytest.mark.parametrize("answer", RIGHT)
def test_numbers_of_every_form(answer):
    found = scores.scores_of(answer, 3, ["a"])
    assert found.dtype == numpy.float32 and found.tolist() == [[1], [2], [3]]


def test_tensors():
    torch = pytest.importorskip("torch")
    ones = torch.tensor([1.0, 2.0, 3.0])
    for answer in [
        ones, ones.to(torch.bfloat16), ones.clone().requires_grad_() * 1, ones.int(), ones[:, None], list(ones), tuple(ones),
        [ones[:1], ones[1:2], ones[2:]], torch.nn.Parameter(ones),
    ]:  # fmt: skip
        assert scores.scores_of(answer, 3, ["a"]).tolist() == [[1], [2], [3]]
    both = {"b": ones[:, None], "a": ones.to(torch.bfloat16)}
    assert scores.scores_of(both, 3, ["a", "b"]).tolist() == [[1, 1], [2, 2], [3, 3]]
    with pytest.raises(ValueError, match="complex"):
        scores.scores_of(ones + 1j, 3, ["a"])
    with pytest.raises(ValueError, match="a tuple of Tensor, Tensor; return the scores alone"):
        scores.scores_of((ones, ones), 3, ["a"])


def test_no_score_is_nan():
    masked = numpy.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    for answer in [masked, [1, None, 3], [1, numpy.ma.masked, 3], {"a": masked}, numpy.array([1, None, 3], object)]:
        assert numpy.isnan(scores.scores_of(answer, 3, ["a"])[:, 0]).tolist() == [False, True, False]


class Table(dict):
    """As pandas has it: columns by name, in an order of its own."""

    columns = ["b", "a"]


def test_columns_go_by_their_names():
    assert scores.scores_of(Table(b=[3, 4], a=[1, 2]), 2, ["a", "b"]).tolist() == [[1, 3], [2, 4]]
    assert scores.scores_of([[1, 3], [2, 4]], 2, ["a", "b"]).tolist() == [[1, 3], [2, 4]]


async def coroutine():
    pass


@pytest.mark.parametrize(
    "answer, message",
    [
        (None, "something of type NoneType; return a number for each image"),
        (0.5, r"shape \(\) for 3 images; it must be \(3, 1\)"),
        (numpy.float32(0.5), r"shape \(\)"),
        ([1.0], r"shape \(1,\)"),
        ([1, 2, 3, 4], r"shape \(4,\)"),
        (numpy.ones((1, 3)), r"shape \(1, 3\)"),
        (numpy.ones((3, 1, 1)), r"shape \(3, 1, 1\)"),
        ((numpy.ones(3), {}), "a tuple of ndarray, dict; return the scores alone"),
        (([1, 2, 3], None), "a tuple of list, NoneType"),
        ((numpy.ones(3), numpy.ones(3)), "a tuple of ndarray, ndarray"),
        ((x for x in [1, 2, 3]), "type generator"),
        (map(float, [1, 2, 3]), "type map"),
        ({1, 2, 3}, "type set"),
        ("123", "type str"),
        (b"123", "type bytes"),
        ([{"a": 1}] * 3, "entries of type dict"),
        ([1j, 2, 3], "entries of type complex"),
        (["one", 2, 3], "could not convert string to float: 'one'"),
        ([[1, 2], 3, 4], "a list whose entries are of different shapes"),
        (numpy.array([1j, 2, 3]), "numbers of type complex128"),
        (numpy.ma.array([1j, 2, 3]), "numbers of type complex128"),
        (numpy.array([1, 2, 3], "timedelta64[s]"), r"numbers of type timedelta64\[s\]"),
        (numpy.zeros(3, [("a", "f4")]), "numbers of type"),
        ({"b": [1, 2, 3]}, r"a dict with the keys \['b'\]; the objectives are \['a'\]"),
        ({"a": [1, 2, 3], 4: 5}, r"the keys \['a', 4\]"),
        ({"a": 1.0}, r"shape \(\)"),
        (object(), "type object"),
    ],
)
def test_what_is_no_score_is_named(answer, message):
    with pytest.raises(ValueError, match=message) as caught:
        scores.scores_of(answer, 3, ["a"])
    assert "\n" not in str(caught.value)


def test_coroutines():
    answer = coroutine()
    with pytest.raises(ValueError, match="type coroutine"):
        scores.scores_of(answer, 3, ["a"])
    answer.close()
