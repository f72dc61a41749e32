"""Text: tokenized with the model's own tokenizer.json."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.content import Content, Limits, Text, wrong_modality
from vecserve_server.modalities.rows import Prepared, Row
from vecserve_server.repository.manifest import TextInput

_QUICK_CHARACTERS = 1000


class TextPipeline:
    """Turns a text into one row of `input_ids` and `attention_mask`, int64 [tokens].

    The tokens are those of the Hugging Face tokenizer with `truncation=True,
    max_length=max_tokens`: special tokens are counted, and kept at both ends.
    """

    def __init__(self, spec: TextInput, bundle_dir: Path, limits: Limits) -> None:
        """Load the tokenizer. Raises ValueError if its file is not usable."""
        self._max_tokens = spec.max_tokens
        self._max_bytes = limits.max_text_bytes
        path = bundle_dir / spec.tokenizer
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
            self._special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)
            self._tokenizer.no_padding()
            # Set once and never changed: the tokenizer is shared by threads.
            self._tokenizer.enable_truncation(spec.max_tokens)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(
                f"{path} is not a tokenizer that tokenizers {tokenizers.__version__} can use "
                f"with {spec.max_tokens} tokens ({error}): export the model again"
            ) from error

    def is_quick(self, content: Content) -> bool:
        """Whether a text is short: a sentence takes 20 us, a trip to a thread 100 us."""
        return isinstance(content, Text) and len(content.text) <= _QUICK_CHARACTERS

    def prepare(self, content: Content, *, refuse_truncation: bool) -> Prepared:
        """Tokenize a text.

        Raises InvalidItem: WRONG_MODALITY, TEXT_TOO_LARGE (bytes), TEXT_TOO_LONG
        (tokens, if `refuse_truncation`).
        """
        if not isinstance(content, Text):
            raise wrong_modality("text", content)
        size = len(content.text.encode())
        if size > self._max_bytes:
            raise InvalidItem(
                "TEXT_TOO_LARGE",
                f"text has {size} bytes, the server takes {self._max_bytes}: split or shorten it",
            )
        # A batch of one, because encode() holds the GIL and encode_batch_fast()
        # does not: 100,000 words stall all other threads for 250 ms or for 2.
        # "Fast" leaves out character offsets, which nobody reads.
        [encoding] = self._tokenizer.encode_batch_fast([content.text])
        truncated = bool(encoding.overflowing)
        if truncated and refuse_truncation:
            raise InvalidItem(
                "TEXT_TOO_LONG",
                f"text has {self._full_length(encoding)} tokens, the model takes "
                f"{self._max_tokens}; shorten it or ask for TRUNCATION_END",
            )
        tokens = len(encoding.ids)
        feeds: dict[str, npt.NDArray[np.generic]] = {
            "input_ids": np.array(encoding.ids, dtype=np.int64),
            "attention_mask": np.array(encoding.attention_mask, dtype=np.int64),
        }
        return Prepared(
            (Row(feeds, positions=tokens, weight=tokens),), token_count=tokens, truncated=truncated
        )

    def _full_length(self, encoding: tokenizers.Encoding) -> int:
        """Count the tokens of a text that was cut; every cut piece has its own specials."""
        pieces = encoding.overflowing
        return len(encoding) + sum(len(piece) - self._special_tokens for piece in pieces)
