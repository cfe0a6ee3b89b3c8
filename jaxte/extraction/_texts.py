"""Texts, and lists of words, to tokens of one length."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxte._optional import is_a
from jaxte.errors import InputError
from jaxte.extraction._arrays import MASK, STARTS

__all__ = ["Texts", "is_tokenizer", "texts_of"]

_MOST = 512  # by default: attention grows with the square


class Texts:
    """A tokenizer of transformers at work, with padding and truncation to one length.

    Args:
        tokenizer: stays as it is.
        max_length: tokens, with those that the tokenizer adds itself.
        words: whether examples are lists of words, whose first tokens are wanted.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, words: bool) -> None:
        name = type(tokenizer).__name__
        if words and not getattr(tokenizer, "is_fast", False):
            raise InputError(f"{name} does not know the words of tokens: level 'token' needs one")
        special = tokenizer.num_special_tokens_to_add()
        if max_length <= special:
            raise InputError(f"max_length is {max_length}: {name} adds {special} tokens itself")
        self._tokenizer = copy.deepcopy(tokenizer)
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:  # the mask hides it
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        self._max_length, self._special, self._words = max_length, special, words
        self.card = {
            "tokenizer": name,
            "vocabulary": len(tokenizer),
            "max_length": max_length,
            "words": words,
        }

    def __call__(self, examples: Sequence[Any]) -> dict[str, np.ndarray]:
        """Tokens [b, t], their mask, and where words begin [b, W].

        Args:
            examples: texts, pairs of texts, or lists of words; or dicts with "text", "text" and
                "text_pair", "words" or "tokens".
        """
        pairs = [_parts(one, row, self._words) for row, one in enumerate(examples)]
        encoded = self._tokenizer(
            [one for one, _ in pairs],
            [pair for _, pair in pairs] if pairs and pairs[0][1] is not None else None,
            is_split_into_words=self._words,
            padding="max_length",
            truncation=True,
            max_length=self._max_length,
            return_attention_mask=True,
        )
        arrays = {name: np.asarray(value, np.int32) for name, value in encoded.items()}
        arrays[MASK][:, 0] = 1  # a text without tokens; attention to nothing is not a number
        if self._words:
            arrays[STARTS] = np.stack(
                [self._starts(encoded.word_ids(i)) for i in range(len(pairs))]
            )
        return arrays

    def _starts(self, words: Sequence[int | None]) -> np.ndarray:
        starts = np.full(self._max_length - self._special, -1, np.int32)
        for token in range(len(words) - 1, -1, -1):
            word = words[token]
            if word is not None and word < len(starts):
                starts[word] = token
        return starts


def is_tokenizer(value: Any) -> bool:
    """Whether it is a tokenizer of transformers."""
    return is_a(value, "transformers.tokenization_utils_base", "PreTrainedTokenizerBase")


def texts_of(tokenizer: Any, max_length: int | None, level: str, config: Any) -> Texts:
    """A tokenizer for a model of this configuration."""
    limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    limit = min((one for one in limits if isinstance(one, int) and one > 0), default=_MOST)
    if max_length is not None and max_length > limit:
        raise InputError(f"max_length is {max_length}, but the model takes {limit} tokens at most")
    length = min(limit, _MOST) if max_length is None else max_length
    return Texts(tokenizer, max_length=length, words=level == "token")


def _parts(example: Any, row: int, words: bool) -> tuple[Any, str | None]:
    """A text or a list of words, and the text that goes with it."""
    pair = None
    if isinstance(example, Mapping):
        pair = None if words else example.get("text_pair")
        keys = ("words", "tokens") if words else ("text",)
        key = next((key for key in keys if key in example), None)
        if key is None:
            raise InputError(
                f"example {row} has {', '.join(map(str, example)) or 'nothing'}, but no "
                + " or ".join(map(repr, keys))
            )
        example = example[key]
    if words:
        if isinstance(example, str) or not all(isinstance(word, str) for word in example):
            raise InputError(f"example {row} is no list of words: level 'token' needs one")
        return list(example), None
    if isinstance(example, tuple) and len(example) == 2 and pair is None:
        example, pair = example
    if getattr(example, "ndim", 0) > 1:
        raise InputError(
            f"example {row} is an image (array of shape {tuple(example.shape)}), not a text: this "
            "model reads texts"
        )
    if not isinstance(example, str):
        raise InputError(
            f"example {row} is a {type(example).__name__}, not a text (lists of words need "
            "level='token')"
        )
    return example, pair
