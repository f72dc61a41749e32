"""Error reasons: the constants by which programs tell our errors apart.

They are API: the reason of google.rpc.ErrorInfo, domain "vecserve", on both
protocols. One mistake has one reason, whichever protocol it came by. The
docstring of each says what is wrong, then what to do; docs/protocol.md is
generated from them. None is ever renamed.
"""

from enum import StrEnum, auto
from typing import Any


class Reason(StrEnum):
    """Why a request, or one item of it, was not answered with vectors."""

    @staticmethod
    def _generate_next_value_(name: str, *_: Any) -> str:
        return name

    # The request.
    MALFORMED_MESSAGE = auto()
    """The bytes are not the message that the method takes, or a text in it is not UTF-8.

    Check that the client's stubs are of this protocol, and, in C++, that its texts are UTF-8.
    """
    MESSAGE_TOO_COMPLEX = auto()
    """The message has more inputs, parameters, elements or other parts than the server takes.

    Send less in each message, and numbers in raw_input_contents.
    """
    NO_ITEMS = auto()
    """The request has no items, or no rows. Send at least one."""
    TOO_MANY_ITEMS = auto()
    """The request has more items or rows than the model takes at a time.

    Use a stream, or smaller requests.
    """
    DUPLICATE_ITEM_ID = auto()
    """Another item of the request, or of the stream and not answered yet, has this item_id.

    Give each its own.
    """
    ITEM_ID_TOO_LONG = auto()
    """The item_id, or the request's id, is too long. Shorten it."""
    UNKNOWN_VALUE = auto()
    """An option has a value that this server does not know.

    Choose one that the message lists; a newer server may know it.
    """
    BAD_PARAMETER = auto()
    """A parameter is of the wrong type, is missing, or cannot be set here.

    Change it as the message says.
    """
    TIMEOUT_INVALID = auto()
    """The timeout is not positive. Leave it out, or allow some time."""

    # The model.
    MODEL_NOT_FOUND = auto()
    """No model of that name is here, or it takes no items.

    Choose one of ListModels, or of the repository's index.
    """
    VERSION_NOT_FOUND = auto()
    """The model has no such version.

    Leave the version out, or choose one that the message lists.
    """
    MODEL_LOADING = auto()
    """The model is still being loaded. Try again in a few seconds."""
    MODEL_UNLOADED = auto()
    """The model was unloaded, or could not be loaded. Load it again, or call another server."""
    LOAD_FAILED = auto()
    """What lies in the repository cannot be served; what was served before still is.

    Mend it as the message says.
    """
    PART_OF_MODEL = auto()
    """The name is that of one graph of a bundle, which is loaded and unloaded as a whole.

    Name the bundle.
    """

    # An item's content.
    NO_CONTENT = auto()
    """The item is empty. Set its content."""
    WRONG_MODALITY = auto()
    """The model does not take this kind of content. Choose one that does: ListModels says which."""
    NOT_UTF8 = auto()
    """The text is not UTF-8. Encode it so."""
    TEXT_TOO_LARGE = auto()
    """The text, or the prompt, is larger than the server takes. Split or shorten it."""
    TEXT_TOO_LONG = auto()
    """The text has more tokens than the model takes, and truncation was refused.

    Shorten it, or allow truncation.
    """
    IMAGE_EMPTY = auto()
    """The image has no bytes. Send a whole image file."""
    IMAGE_UNREADABLE = auto()
    """The image is damaged, or of no format that the server reads.

    Send a whole file of a format that the message lists.
    """
    IMAGE_TRUNCATED = auto()
    """The image ends too early. Send all of the file."""
    IMAGE_TOO_LARGE = auto()
    """The image has more pixels than the server takes, or would have once resized.

    Crop it or scale it down.
    """
    IMAGE_TOO_COMPLEX = auto()
    """The image is coded in more parts (scans of a JPEG, chunks of a PNG) than the server takes.

    Write it anew.
    """
    IMAGE_UNSUPPORTED = auto()
    """The image has samples whose meaning is not known.

    Convert it to 8 or 16 bits a channel, unsigned.
    """
    AUDIO_EMPTY = auto()
    """The audio holds no samples. Send at least one."""
    AUDIO_UNREADABLE = auto()
    """The audio is damaged, or of no format that the server reads.

    Send a whole file of a format that the message lists.
    """
    AUDIO_TRUNCATED = auto()
    """The audio ends before its header says. Send all of the file, or write it anew."""
    AUDIO_LENGTH_WRONG = auto()
    """A part of the file is neither sound that its headers state nor a known tag.

    It would be left out: write the file anew.
    """
    AUDIO_TOO_LONG = auto()
    """The audio lasts longer, or has more samples, than the server takes. Send it in parts."""
    AUDIO_OUT_OF_RANGE = auto()
    """The audio holds samples that are not finite, or far over full scale. Write it anew."""
    AUDIO_UNSUPPORTED = auto()
    """The audio has a sample rate or number of channels that the server does not take, or several.

    Resample it, mix it down, or send files that were joined each alone.
    """
    DECODING_TOO_SLOW = auto()
    """The file takes longer to decode than the server allows.

    Write it anew in a simpler form, scale it down, or send it in parts.
    """
    DECODING_TOO_LARGE = auto()
    """The file takes more memory to decode than the server allows.

    Scale it down, or send it in parts.
    """
    DECODER_CRASHED = auto()
    """The decoder crashed on the file; the server did not. Write it anew."""
    PCM_INVALID = auto()
    """The samples are no whole number of frames. Check their format and channels."""
    VIDEO_EMPTY = auto()
    """The file has no bytes, or no pictures. Send one that has a video stream."""
    VIDEO_UNREADABLE = auto()
    """The video is damaged, or of no format that the server reads.

    Send a whole file of a format that the message lists.
    """
    VIDEO_TRUNCATED = auto()
    """The video ends before its structure says. Send all of the file."""
    VIDEO_TOO_LONG = auto()
    """The video lasts longer than the server takes. Send it in parts."""
    VIDEO_TOO_LARGE = auto()
    """The video has larger frames, or more of them to decode, than the server takes.

    Scale it down, or send it in parts.
    """
    VIDEO_UNSUPPORTED = auto()
    """The video is coded, timed or rotated in a way that the server does not read.

    Convert it as the message says.
    """

    # An item's options.
    POOLING_NOT_OFFERED = auto()
    """The model does not offer this pooling. Choose one that the message lists."""
    RAW_NOT_OFFERED = auto()
    """The model gives unit vectors only. Leave `normalize` out."""
    PROMPT_NOT_OFFERED = auto()
    """The model has no prompt of that name. Choose one that the message lists, or send `prompt`."""
    DIMENSIONS_NOT_OFFERED = auto()
    """The model was not trained for vectors of that many numbers, or has fewer.

    Choose one of ModelInfo.matryoshka_dimensions, or set `force_dimensions`.
    """
    BINARY_NOT_OFFERED = auto()
    """The count of a vector's numbers is no multiple of 8, which packed bits need.

    Choose other dimensions, or another data type.
    """
    FRAMES_NOT_OFFERED = auto()
    """The server does not embed that many frames of a video, or reads no videos.

    Ask for at most ModalityInfo.max_frames, or a server with vecserve[video].
    """
    WINDOWS_NOT_POOLED = auto()
    """One vector for all windows was asked for, and one a position. Ask for one of the two."""

    # Tensors.
    UNKNOWN_INPUT = auto()
    """The model has no input of that name. Choose one that the message lists."""
    UNKNOWN_OUTPUT = auto()
    """The model has no output of that name. Choose one that the message lists."""
    MISSING_INPUT = auto()
    """An input that the model needs is not there. Send it."""
    DUPLICATE_INPUT = auto()
    """An input is there twice. Send it once."""
    DUPLICATE_OUTPUT = auto()
    """An output is asked for twice. Name it once."""
    ONE_INPUT = auto()
    """A bundle takes one kind of content a request. Send one input."""
    UNKNOWN_DATATYPE = auto()
    """No datatype has this name. Choose one that the message lists."""
    WRONG_DATATYPE = auto()
    """The input has another datatype than the model's. Send the one that ModelMetadata names."""
    WRONG_SHAPE = auto()
    """The input's shape is not one that the model takes, or inputs differ in equal axes.

    Send the one that ModelMetadata gives.
    """
    EMPTY_MASK = auto()
    """A row's mask holds zeros only. Mark at least one position."""
    SIZE_MISMATCH = auto()
    """The contents have another size than their shape takes.

    Send as many elements, or bytes, as the shape says.
    """
    WRONG_CONTENTS = auto()
    """The elements are in a field for another datatype. Use the field that the message names."""
    TWO_CONTENTS = auto()
    """The input has contents beside raw_input_contents. Send one of them."""
    RAW_ONLY = auto()
    """Elements of this datatype fit raw_input_contents only. Send them there."""
    OUT_OF_RANGE = auto()
    """A value does not fit the datatype, or the model has no entry for it.

    Send values in the range that the message gives, token ids of the model's vocabulary.
    """
    SHAPES_DIFFER = auto()
    """Without pooling the items have different numbers of vectors, which fit no tensor.

    Send one item a request.
    """
    NO_CLASSIFICATION = auto()
    """This server ranks no classes. Ask for the output itself."""
    NO_SEQUENCES = auto()
    """No model here keeps a state between requests. Leave the sequence parameters out."""

    # Shared memory.
    REGION_NOT_FOUND = auto()
    """No region of that name is registered. Register it first."""
    REGION_EXISTS = auto()
    """A region of that name is registered already. Unregister it first."""
    REGION_TOO_SMALL = auto()
    """The output does not fit the part of the region that is given to it. Give it more."""
    REGION_TOO_LARGE = auto()
    """The inputs in shared memory are larger than the server reads for a request.

    Send fewer rows in each, or start the server with a larger --max-queue-mb.
    """
    REGION_SHRUNK = auto()
    """The memory has become smaller since it was registered. Register it anew."""
    TOO_MANY_REGIONS = auto()
    """As many regions are registered as may be. Unregister some."""
    EMPTY_REGION = auto()
    """The region has no bytes. Give its byte_size."""
    NO_NAME = auto()
    """The region has no name. Give it one."""
    BAD_KEY = auto()
    """The key is not the name of shared memory. Use the name that shm_open takes."""
    NO_SUCH_MEMORY = auto()
    """The shared memory cannot be opened. Create it first, on the server's machine."""
    OUT_OF_BOUNDS = auto()
    """The bytes that are named lie outside the memory or the region. Check offset and size."""
    NO_SHARED_MEMORY = auto()
    """The server's machine has no POSIX shared memory. Send tensors in messages."""

    # What this server does not do.
    NO_GPU = auto()
    """CUDA shared memory is not supported. Use system shared memory."""
    NO_TRACING = auto()
    """Trace settings are not supported. Do without."""
    NO_LOG_SETTINGS = auto()
    """Log settings cannot be changed while the server runs. Start it with another --log-level."""

    # Load, time and failure.
    QUEUE_FULL = auto()
    """As much waits for the model as may wait.

    Try again after the time in google.rpc.RetryInfo, or use a stream, which waits.
    """
    DEADLINE_MISSED = auto()
    """The answer would come, or came, after the deadline. Allow more time, or send less."""
    TOO_MANY_CALLS = auto()
    """The server has as many calls open, of all callers, as it may have.

    Try again after the time in google.rpc.RetryInfo, or use a stream for many items.
    """
    SHUTTING_DOWN = auto()
    """The server is stopping. Call another."""
    COMPUTE_FAILED = auto()
    """The model failed on this input, run alone. Report it: the input passed every check."""
    BATCH_TIMED_OUT = auto()
    """The model was stopped on this input: alone, it ran longer than a batch may.

    Send less at once; or have the server started with a larger --max-batch-s.
    """
    NOT_FINITE = auto()
    """The model gave numbers that are not finite. Report it."""
    UNFORESEEN = auto()
    """The server failed in a way that is its own fault. Report it, with its log."""
