from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]

class Modality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_UNSPECIFIED: _ClassVar[Modality]
    MODALITY_TEXT: _ClassVar[Modality]
    MODALITY_IMAGE: _ClassVar[Modality]
    MODALITY_AUDIO: _ClassVar[Modality]
    MODALITY_VIDEO: _ClassVar[Modality]

class Pooling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POOLING_UNSPECIFIED: _ClassVar[Pooling]
    POOLING_NONE: _ClassVar[Pooling]
    POOLING_MEAN: _ClassVar[Pooling]
    POOLING_CLS: _ClassVar[Pooling]
    POOLING_LAST: _ClassVar[Pooling]
    POOLING_MAX: _ClassVar[Pooling]
    POOLING_WEIGHTED_MEAN: _ClassVar[Pooling]
    POOLING_MEAN_SQRT_LEN: _ClassVar[Pooling]
    POOLING_CONCATENATED: _ClassVar[Pooling]
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_READY: ModelState
MODALITY_UNSPECIFIED: Modality
MODALITY_TEXT: Modality
MODALITY_IMAGE: Modality
MODALITY_AUDIO: Modality
MODALITY_VIDEO: Modality
POOLING_UNSPECIFIED: Pooling
POOLING_NONE: Pooling
POOLING_MEAN: Pooling
POOLING_CLS: Pooling
POOLING_LAST: Pooling
POOLING_MAX: Pooling
POOLING_WEIGHTED_MEAN: Pooling
POOLING_MEAN_SQRT_LEN: Pooling
POOLING_CONCATENATED: Pooling

class ModelInfo(_message.Message):
    __slots__ = ("name", "version", "state", "description", "trained", "license", "source", "precision", "dimensions", "modalities", "matryoshka_dimensions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    MODALITIES_FIELD_NUMBER: _ClassVar[int]
    MATRYOSHKA_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    state: ModelState
    description: str
    trained: bool
    license: str
    source: str
    precision: str
    dimensions: int
    modalities: _containers.RepeatedCompositeFieldContainer[ModalityInfo]
    matryoshka_dimensions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., description: _Optional[str] = ..., trained: bool = ..., license: _Optional[str] = ..., source: _Optional[str] = ..., precision: _Optional[str] = ..., dimensions: _Optional[int] = ..., modalities: _Optional[_Iterable[_Union[ModalityInfo, _Mapping]]] = ..., matryoshka_dimensions: _Optional[_Iterable[int]] = ...) -> None: ...

class ModalityInfo(_message.Message):
    __slots__ = ("modality", "outputs", "max_tokens", "window_seconds", "max_seconds", "prompts", "default_prompt", "max_windows", "max_frames")
    class PromptsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_FIELD_NUMBER: _ClassVar[int]
    modality: Modality
    outputs: _containers.RepeatedCompositeFieldContainer[OutputInfo]
    max_tokens: int
    window_seconds: float
    max_seconds: float
    prompts: _containers.ScalarMap[str, str]
    default_prompt: str
    max_windows: int
    max_frames: int
    def __init__(self, modality: _Optional[_Union[Modality, str]] = ..., outputs: _Optional[_Iterable[_Union[OutputInfo, _Mapping]]] = ..., max_tokens: _Optional[int] = ..., window_seconds: _Optional[float] = ..., max_seconds: _Optional[float] = ..., prompts: _Optional[_Mapping[str, str]] = ..., default_prompt: _Optional[str] = ..., max_windows: _Optional[int] = ..., max_frames: _Optional[int] = ...) -> None: ...

class OutputInfo(_message.Message):
    __slots__ = ("pooling", "normalized")
    POOLING_FIELD_NUMBER: _ClassVar[int]
    NORMALIZED_FIELD_NUMBER: _ClassVar[int]
    pooling: Pooling
    normalized: bool
    def __init__(self, pooling: _Optional[_Union[Pooling, str]] = ..., normalized: bool = ...) -> None: ...
