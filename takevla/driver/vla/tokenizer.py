# mypy: disable-error-code="no-untyped-call"
"""A word-level tokenizer made from the commentary's own sentences: every word is one token."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD = "<pad>"
UNKNOWN = "<unk>"
END = "<end>"
SAY = "<say>"  # the last token of the prompt: the first word is predicted from it
IMAGE = "<image>"
TILE = "<tile>"
TARGET = "<target>"
SPEED = "<speed>"
OPTION = "<option>"
SPECIAL_TOKENS = (PAD, UNKNOWN, END, SAY, IMAGE, TILE, TARGET, SPEED, OPTION)


def build_tokenizer(corpus: Iterable[str], max_length: int = 64) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is every white-space-separated word of `corpus`, sorted.

    Punctuation stays with its word, so that `decode(encode(s)) == s` for every sentence of the
    corpus.  Raises `ValueError` when the corpus has no words.
    """
    words = sorted({word for sentence in corpus for word in sentence.split()})
    if not words:
        raise ValueError("tokenizer corpus: no words in it; pass the commentary grammar's sentences")
    vocabulary = {word: index for index, word in enumerate((*SPECIAL_TOKENS, *words))}
    engine = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=engine,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[SAY, IMAGE, TILE, TARGET, SPEED, OPTION],
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def encode_commentary(tokenizer: PreTrainedTokenizerFast, sentence: str, max_words: int) -> list[int]:
    """Token ids of a commentary without the end token, cut at `max_words`."""
    ids: list[int] = tokenizer.encode(sentence, add_special_tokens=False)
    return ids[:max_words]


def decode_commentary(tokenizer: PreTrainedTokenizerFast, ids: Iterable[int]) -> str:
    """The sentence of these token ids; special tokens are left out."""
    special = set(tokenizer.all_special_ids)
    kept = [int(index) for index in ids if int(index) not in special]
    return str(tokenizer.decode(kept)).strip()
