"""Items of a load: texts and token ids, seeded, the same for every target and client."""

from random import Random

from vecserve.bench.load import Load

_BLOCK = 32
"""Every block of this many items covers the whole range of lengths, so that
rounds of a second or two are alike."""

# Each is one token in the vocabularies of BERT and CLIP.
_WORDS = tuple(
    "the of and to in is was for on with as by at from it an were which this that had first one "  # noqa: SIM905
    "their time year city house river world people water school music night day old new long "
    "small great black white red blue green".split()
)
_SPECIAL_TOKENS = 2
# Ids of ordinary words in the vocabulary of BERT, and in that of CLIP.
_FIRST_ID, _LAST_ID = 2000, 20_000
_FIRST_SPECIAL_ID, _LAST_SPECIAL_ID = 101, 102


def lengths(load: Load, count: int) -> list[int]:
    """Return `count` lengths, in tokens, uniform over the load's range and shuffled."""
    low, high = load.tokens
    random = Random(f"{load.seed} lengths")
    found: list[int] = []
    while len(found) < count:
        offset = random.random()
        block = [low + int((part + offset) * (high + 1 - low) / _BLOCK) for part in range(_BLOCK)]
        random.shuffle(block)
        found += block
    return found[:count]


def texts(load: Load, count: int) -> list[str]:
    """Return `count` texts of the load's lengths, two special tokens included."""
    random = Random(f"{load.seed} texts")
    return [
        " ".join(random.choices(_WORDS, k=max(length - _SPECIAL_TOKENS, 0)))
        for length in lengths(load, count)
    ]


def token_ids(load: Load, count: int) -> list[list[int]]:
    """Return `count` lists of token ids of the load's lengths, with BERT's special ids."""
    random = Random(f"{load.seed} ids")
    return [
        [
            _FIRST_SPECIAL_ID,
            *random.choices(range(_FIRST_ID, _LAST_ID), k=max(length - _SPECIAL_TOKENS, 0)),
            _LAST_SPECIAL_ID,
        ]
        for length in lengths(load, count)
    ]
