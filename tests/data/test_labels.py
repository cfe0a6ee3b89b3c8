"""Labels of any form: which task they make, and what becomes of them."""

from typing import Any

import numpy as np
import pytest

from jaxte import InputError, data


def labelled(labels: Any, **options: Any) -> data.Dataset:
    return data.as_dataset(np.zeros((len(labels), 2)), labels, **options)


def test_texts_are_classes_in_alphabetical_order() -> None:
    for labels in (["b", "c", "a", "c"], np.asarray([b"b", b"c", b"a", b"c"])):
        result = labelled(labels)
        assert (result.task, result.class_names) == ("classification", ("a", "b", "c"))
        assert [label for _, label in result] == [1, 2, 0, 2]
    objects = np.asarray(["b", "a"], object)
    assert labelled(objects).class_names == ("a", "b")


def test_integers_stay_where_they_count_from_0() -> None:
    result = labelled(np.asarray([2, 0, 1, 2], np.uint8))
    assert (result.num_classes, result.class_names) == (3, None)
    np.testing.assert_array_equal(result.labels(), [2, 0, 1, 2])


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        ([-1, 1, -1], ("-1", "1"), [0, 1, 0]),
        ([30, 7, 30, 10], ("7", "10", "30"), [2, 0, 2, 1]),
        ([1, 2], ("1", "2"), [0, 1]),
        ([True, False], ("False", "True"), [1, 0]),
    ],
)
def test_other_integers_are_counted_through(labels: Any, names: Any, ids: list[int]) -> None:
    result = labelled(labels)
    assert result.class_names == names
    np.testing.assert_array_equal(result.labels(), ids)


def test_named_classes_keep_their_numbers() -> None:
    """So that the splits of a data set agree, though a class may be missing from one."""
    texts = labelled(["c", "a"], classes=("c", "b", "a"))
    assert (texts.num_classes, texts.class_names) == (3, ("c", "b", "a"))
    np.testing.assert_array_equal(texts.labels(), [0, 2])
    assert labelled([3, 1], classes=5).num_classes == 5
    np.testing.assert_array_equal(labelled([3, 1], classes=5).labels(), [3, 1])
    np.testing.assert_array_equal(labelled([True, True], classes=("no", "yes")).labels(), [1, 1])


def test_floats_are_regression() -> None:
    one, several = labelled([0.5, 1, 2]), labelled(np.asarray([[0.5, 1], [2, 3]]))
    assert (one.task, several.task, one.num_classes) == ("regression", "regression", None)
    assert one.labels().dtype == several.labels().dtype == np.float32  # type: ignore[union-attr]
    _, labels = next(several.batches(2))
    np.testing.assert_array_equal(labels, [[0.5, 1], [2, 3]])
    assert [float(label) for _, label in one] == [0.5, 1, 2]
    assert labelled([[1, 2], [3, 4]], task="regression").task == "regression"
    with pytest.raises(InputError, match=r"integers of shape \[2, 2\].*floats"):
        labelled([[1, 2], [3, 4]])  # two classes each, or two numbers? nobody can tell
    assert labelled([3, 4, 4], task="regression").labels().tolist() == [3, 4, 4]  # type: ignore[union-attr]


def test_whole_floats_may_be_classes() -> None:
    result = labelled([1.0, 0.0, 1.0], task="classification")
    np.testing.assert_array_equal(result.labels(), [1, 0, 1])
    with pytest.raises(InputError, match=r"row 1 has label 0\.5, which is no class"):
        labelled([1.0, 0.5], task="classification")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64])
def test_multi_hot_rows(dtype: Any) -> None:
    result = labelled(np.asarray([[1, 0, 1], [0, 0, 0]], dtype))
    assert (result.task, result.num_classes) == ("multilabel", 3)
    np.testing.assert_array_equal(result.labels(), [[1, 0, 1], [0, 0, 0]])
    assert result.labels().dtype == np.float32  # type: ignore[union-attr]


def test_lists_of_tags_become_multi_hot() -> None:
    result = labelled([["sun", "sea"], [], ["ice"], ["sea", "sea"]])
    assert (result.task, result.class_names) == ("multilabel", ("ice", "sea", "sun"))
    np.testing.assert_array_equal(result.labels(), [[0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]])
    ids = labelled([[2], [0, 1], []], classes=3)
    np.testing.assert_array_equal(ids.labels(), [[0, 0, 1], [1, 1, 0], [0, 0, 0]])


def test_tags_of_words() -> None:
    words = [["the", "cat"], ["a", "red", "dog"], []]
    result = data.as_dataset(words, [["O", "ANIMAL"], ["O", None, "ANIMAL"], []])
    assert (result.task, result.class_names, result.ignore) == ("tokens", ("ANIMAL", "O"), -100)
    inputs, labels = next(result.batches(3))
    assert inputs == words
    np.testing.assert_array_equal(labels, [[1, 0, -100], [1, -100, 0], [-100] * 3])
    assert labels.dtype == np.int32
    numbered = data.as_dataset(words, [[4, 0], [0, -1, 2], []], ignore=-1)
    assert (numbered.num_classes, numbered.ignore) == (5, -1)
    np.testing.assert_array_equal(numbered[1][1], [0, -1, 2])


def test_label_maps() -> None:
    maps = np.zeros((2, 4, 5), np.uint8)
    maps[0, 1, 1], maps[1, 0, 0] = 6, 255
    result = data.as_dataset(np.zeros((2, 8, 9, 3), np.uint8), maps)
    assert (result.task, result.num_classes, result.ignore) == ("segmentation", 7, 255)
    np.testing.assert_array_equal(next(result.batches(2))[1], maps)
    sizes = data.as_dataset(np.zeros((2, 1)), [maps[0], maps[1, :2]])
    first, second = next(sizes.batches(2))[1]
    assert (first.shape, second.shape) == ((4, 5), (2, 5))
    assert result.labels() is None
    signed = data.as_dataset(np.zeros((1, 1)), np.full((1, 2, 2, 1), -1), ignore=-1)
    assert signed[0][1].shape == (2, 2)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([], {}, "holds no rows"),
        ([0, None], {}, "row 1 has no label"),
        ([1.0, np.nan], {}, "row 1 has no label"),
        ([[1.0, 2], [np.inf, 0]], {}, "row 1 has a label that is missing or not finite"),
        (
            ["a", "z"],
            {"classes": ("a", "b")},
            "row 1 has label 'z', which is none of the classes a, b",
        ),
        ([0, 5], {"classes": 3}, r"row 1 has label 5, outside the 3 classes, 0 to 2"),
        ([0, -1], {"classes": 3}, "row 1 has label -1"),
        (["a", "b"], {"classes": 3}, "holds 2 classes, not 3"),
        (["a", "b"], {"task": "regression"}, "regression needs numbers"),
        ([1 + 2j], {}, "have dtype complex128"),
        ([["a"], ["b", None]], {}, "row 1 has no label"),
        ([["a"], ["c", "b"]], {"classes": ("a", "c")}, "row 1 has label 'b'"),
        ([[0.1], [0.2, 0.3]], {"task": "regression"}, "different numbers of labels"),
        ([[0, 2], [1, 1]], {"task": "multilabel", "classes": 2}, "row 0 has label 2"),
        (np.asarray([[0, 2]]), {"task": "multilabel"}, "rows of 0 and 1"),
        (np.asarray([[0, 1]]), {"classes": 3}, "has 2 columns, but there are 3 classes"),
        (np.zeros((2, 3)), {"task": "classification"}, r"shape \(2, 3\): one class per row"),
        ([0, 1], {"task": "detection"}, "unknown task 'detection'"),
        ([0, 1], {"task": "classification", "ignore": 3}, "ignore is for tokens"),
        ([0, 1], {"classes": ("a", "a")}, "named twice"),
        ([0, 1], {"classes": 0}, "classes is 0: at least 1"),
        (["z"], {"classes": tuple("abcdefghijkl")}, r"none of the classes a, b, .*, j, \.\.\.$"),
        (np.full((1, 2, 2), 0.5), {}, "type float64 and shape"),
        (np.full((1, 2, 2), -1), {}, r"row 0 has label -1, which is neither a class \(0\)"),
        (np.full((1, 2, 2), 9), {"classes": 4}, r"label 9, which is neither a class \(0 to 3\)"),
    ],
)
def test_what_cannot_be_used_is_named(labels: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        labelled(labels, **options)


def test_tags_must_be_as_many_as_words_and_classes() -> None:
    words = [["a"], ["b", "c"]]
    with pytest.raises(InputError, match="row 1 has 2 words but 1 tags"):
        data.as_dataset(words, [["X"], ["Y"]])
    with pytest.raises(InputError, match="row 1 has label 'Z', which is none of the classes X, Y"):
        data.as_dataset(words, [["X"], ["Y", "Z"]], classes=("X", "Y"))
    with pytest.raises(InputError, match="row 1 has label 7"):
        data.as_dataset(words, [[1], [0, 7]], classes=3)
    with pytest.raises(InputError, match="tags of type float64"):
        data.as_dataset(words, [[1.5], [0, 7]])
