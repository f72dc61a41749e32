"""Text modality: tokenized with the model's own tokenizer.json."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tokenizers

from vecserve_server.errors import InvalidItem
from vecserve_server.modalities.base import Fields, Modality
from vecserve_server.modalities.content import Content, Limits
from vecserve_server.modalities.rows import Prepared, Row
from vecserve_server.modalities.text_cut import safe_cut
from vecserve_server.reasons import Reason
from vecserve_server.repository.manifest import TextInput

_log = logging.getLogger(__name__)

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_QUICK_CHARACTERS = 1000
# A token of English has four or five, so that most long texts are cut at the first attempt.
_CHARACTERS_PER_TOKEN = 8
_ATTEMPT_GROWTH = 4
# Of a request's own prompt: it is tokenized anew for each of its items.
_MAX_PROMPT_CHARACTERS = 4096
# Of two lengths, so that padding and its mask are compared too.
_PROBES = (
    "A probe.",
    "Rows of several lengths share this batch, so that padding and its mask are proven too.",
)


@dataclass(frozen=True, slots=True)
class Text(Content):
    """A text."""

    described = "a text"
    text: str


def _without_mark(text: str) -> Text:
    """Return a text without the byte order mark that editors of Windows put before it."""
    return Text(text.removeprefix("\ufeff"))


class TextModality(Modality[TextInput, Text]):
    """Turns a text into one row of `input_ids` and `attention_mask`, int64 [tokens].

    The tokens are those of the Hugging Face tokenizer with `truncation=True,
    max_length=max_tokens`: special tokens are counted, and kept at both ends.
    """

    fields: ClassVar[Fields] = {"text": _without_mark}
    accepts = (Text,)

    def __init__(self, spec: TextInput, bundle_dir: Path, limits: Limits) -> None:
        """Load the tokenizer. Raises ValueError if its file is not usable."""
        self._model = bundle_dir.parent.name
        self._prompts = spec.prompts
        self._default_prompt = spec.default_prompt
        self._advised = False
        self._pad_id = spec.pad_id
        self._max_tokens = spec.max_tokens
        self._max_bytes = limits.max_text_bytes
        path = bundle_dir / spec.tokenizer
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
            self._special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)
            self._cut = safe_cut(self._tokenizer)
            self._greatest_id = max(self._tokenizer.get_vocab().values())
            self._tokenizer.no_padding()
            # Set once and never changed: the tokenizer is shared by threads.
            self._tokenizer.enable_truncation(spec.max_tokens)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(
                f"{path} is not a tokenizer that tokenizers {tokenizers.__version__} can use "
                f"with {spec.max_tokens} tokens ({error}): export the model again"
            ) from error

    @staticmethod
    def from_bytes(data: bytes) -> Text:
        """Return a text. Raises InvalidItem: NOT_UTF8."""
        try:
            return _without_mark(data.decode())
        except UnicodeDecodeError as error:
            if data.startswith(_UTF16_MARKS):
                raise InvalidItem(
                    Reason.NOT_UTF8, "the text is UTF-16: encode it as UTF-8"
                ) from error
            raise InvalidItem(Reason.NOT_UTF8, f"the text is not UTF-8: {error}") from error

    @classmethod
    def describe(cls, spec: TextInput, limits: Limits) -> dict[str, Any]:
        """Return the tokens that a text may have, and the model's prompts."""
        return {
            "max_tokens": spec.max_tokens,
            "prompts": spec.prompts,
            "default_prompt": spec.default_prompt,
        }

    @property
    def pads(self) -> dict[str, int]:
        """Token ids and mask."""
        return {"input_ids": self._pad_id, "attention_mask": 0}

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Token ids of the vocabulary; a mask of zeros and ones."""
        return {"input_ids": (0, self._greatest_id), "attention_mask": (0, 1)}

    @property
    def max_positions(self) -> int:
        """Tokens of the longest text."""
        return self._max_tokens

    def blank_row(self, positions: int) -> Row:
        """Return padding, all of it attended to."""
        return _row([self._pad_id] * positions, [1] * positions)

    def probe_rows(self) -> list[Row]:
        """Return sentences."""
        return [
            row
            for text in _PROBES
            for row in self.prepare(Text(text), refuse_truncation=False).rows
        ]

    def with_prompt(self, content: Text, input_type: str | None, prompt: str | None) -> Text:
        """Return a text with a prompt before it: sentence-transformers joins them so.

        Raises InvalidItem: PROMPT_NOT_OFFERED, TEXT_TOO_LARGE.
        """
        if prompt is not None and input_type is not None:
            raise InvalidItem(
                Reason.PROMPT_NOT_OFFERED, "the request has input_type and prompt: send one of them"
            )
        if prompt is None:
            prompt = self._prompt_of(input_type)
        elif len(prompt) > _MAX_PROMPT_CHARACTERS:
            raise InvalidItem(
                Reason.TEXT_TOO_LARGE,
                f"prompt has {len(prompt)} characters, the server takes "
                f"{_MAX_PROMPT_CHARACTERS}: shorten it",
            )
        return Text(prompt + content.text) if prompt else content

    def _prompt_of(self, input_type: str | None) -> str:
        name = self._default_prompt if input_type is None else input_type
        if name in self._prompts:
            return self._prompts[name]
        if name is not None:
            raise InvalidItem(
                Reason.PROMPT_NOT_OFFERED,
                f"no prompt {name!r}; the model has: {', '.join(self._prompts) or 'none'}",
            )
        if any(self._prompts.values()) and not self._advised:
            self._advised = True
            _log.warning(
                "%s: a text came without input_type, but the model was trained with prompts (%s): "
                "its vectors are poor without; this is said once",
                self._model,
                ", ".join(self._prompts),
            )
        return ""

    def is_quick(self, content: Text) -> bool:
        """Whether a text is short: a sentence takes 20 us, a trip to a thread 100 us."""
        return len(content.text) <= _QUICK_CHARACTERS

    def prepare(self, content: Text, *, refuse_truncation: bool) -> Prepared:
        """Tokenize a text.

        Raises InvalidItem: TEXT_TOO_LARGE (bytes), TEXT_TOO_LONG (tokens, if
        `refuse_truncation`).
        """
        size = len(content.text.encode())
        if size > self._max_bytes:
            raise InvalidItem(
                Reason.TEXT_TOO_LARGE,
                f"text has {size} bytes, the server takes {self._max_bytes}: split or shorten it",
            )
        encoding = self._encode(content.text)
        truncated = bool(encoding.overflowing)
        if truncated and refuse_truncation:
            # Whoever has to shorten it needs to know by how much.
            length = self._full_length(self._encode_whole(content.text))
            raise InvalidItem(
                Reason.TEXT_TOO_LONG,
                f"text has {length} tokens, the model takes {self._max_tokens}; shorten it or ask "
                "for TRUNCATION_END",
            )
        row = _row(encoding.ids, encoding.attention_mask)
        return Prepared((row,), token_count=row.positions, truncated=truncated)

    def _encode(self, text: str) -> tokenizers.Encoding:
        """Tokenize enough of a text to fill the model."""
        at = self._max_tokens * _CHARACTERS_PER_TOKEN
        while self._cut and (found := self._cut.search(text, at)):
            encoding = self._encode_whole(text[: found.start()])
            if encoding.overflowing:
                return encoding
            at = found.start() * _ATTEMPT_GROWTH
        return self._encode_whole(text)

    def _encode_whole(self, text: str) -> tokenizers.Encoding:
        # A batch of one, because encode() holds the GIL and encode_batch_fast()
        # does not: 100,000 words stall all other threads for 250 ms or for 2.
        # "Fast" leaves out character offsets, which nobody reads.
        [encoding] = self._tokenizer.encode_batch_fast([text])
        return encoding

    def _full_length(self, encoding: tokenizers.Encoding) -> int:
        """Count the tokens of a text that was cut; every cut piece has its own specials."""
        pieces = encoding.overflowing
        return len(encoding) + sum(len(piece) - self._special_tokens for piece in pieces)


def _row(ids: list[int], mask: list[int]) -> Row:
    feeds: dict[str, npt.NDArray[np.generic]] = {
        "input_ids": np.array(ids, dtype=np.int64),
        "attention_mask": np.array(mask, dtype=np.int64),
    }
    return Row(feeds, positions=len(ids), weight=len(ids))
