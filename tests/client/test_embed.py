"""`Client.embed`: what may go in, what comes out, and how failures are told."""

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile

from vecserve import Audio, Client, EmbedError, Image, Item, ModelNotFound, Pcm

TEXT = "all-MiniLM-L6-v2"
IMAGE = "resnet-50"
TEXT_AND_IMAGE = "clip-vit-base-patch32"
AUDIO = "whisper-base"


def assert_same(rows: np.ndarray, tolerance: float = 1e-4) -> None:
    """All rows are the first one, but for the batch's last bits, relative to its scale."""
    scale = np.abs(rows[0]).max()
    assert np.abs(rows - rows[0]).max() <= tolerance * scale


def test_gives_one_row_an_item_in_the_order_given(client: Client) -> None:
    texts = [f"sentence number {number} " + "very " * (number % 40) for number in range(300)]
    rows = client.embed(TEXT, texts)
    assert rows.shape == (300, 384)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows[::-1], client.embed(TEXT, reversed(texts)), atol=1e-5)
    assert len(np.unique(rows.round(3), axis=0)) == 300


def test_no_items_give_no_rows(client: Client) -> None:
    assert client.embed(TEXT, []).shape == (0, 384)
    assert client.embed(TEXT, [], pooling="none") == []


def test_float16_and_unnormalized(client: Client) -> None:
    full = client.embed(TEXT, ["a text"], normalize=False)
    half = client.embed(TEXT, ["a text"], normalize=False, dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, full, rtol=1e-3, atol=1e-6)
    assert abs(np.linalg.norm(full) - 1) > 0.1
    half += 1  # the caller may write into it


def test_pooling_none_gives_a_list_of_sequences(client: Client) -> None:
    short, long = client.embed(TEXT, ["hello", "a somewhat longer text"], pooling="none")
    assert short.shape == (3, 384)  # two of them special tokens
    assert long.shape[0] > short.shape[0]


def test_windows_of_long_audio(client: Client) -> None:
    waveform = (np.sin(np.arange(31 * 8000) / 9), 8000)
    assert client.embed(AUDIO, [waveform]).shape == (1, 512)
    (sequence,) = client.embed(AUDIO, [waveform], pooling="none")
    assert sequence.shape == (2 * 1500, 512)


def test_windows_each_gives_a_list(client: Client, speech: Path) -> None:
    long = (np.sin(np.arange(65 * 8000) / 9), 8000)
    vectors = client.embed(AUDIO, [long, speech], windows="each", pooling="mean")
    assert [array.shape for array in vectors] == [(3, 512), (1, 512)]
    pooled = client.embed(AUDIO, [long, speech], windows="pooled")
    np.testing.assert_allclose(vectors[1][0], pooled[1], rtol=1e-3, atol=1e-4)
    (row,) = client.embed(TEXT, ["a text"], windows="each")
    assert row.shape == (1, 384)
    (sequence,) = client.embed(AUDIO, [long], windows="each", pooling="none")
    assert sequence.shape == (3 * 1500, 512)
    with pytest.raises(EmbedError, match="WINDOWS_POOLED"):
        client.embed(AUDIO, [long], windows="pooled", pooling="none")


def test_text_files(client: Client, tmp_path: Path) -> None:
    named, unnamed = tmp_path / "a.txt", tmp_path / "unnamed"
    named.write_text("Grüße")
    unnamed.write_text("Grüße")  # a model that takes only text says what it is
    assert_same(client.embed(TEXT, ["Grüße", named, unnamed]))


def test_an_image_may_come_in_many_ways(client: Client, photo: Path, tmp_path: Path) -> None:
    unnamed = tmp_path / "photo"
    shutil.copy(photo, unnamed)
    data = photo.read_bytes()
    with PIL.Image.open(photo) as opened:
        items = [photo, unnamed, data, memoryview(data), Image(data), Image(unnamed), opened]
        assert_same(client.embed(IMAGE, items))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK", "YCbCr"])
def test_pil_images_of_any_mode(client: Client, mode: str) -> None:
    # Black and white, which every mode has without loss.
    image = PIL.Image.new("L", (300, 260), 0)
    image.paste(255, (0, 0, 100, 260))
    if mode == "I;16":
        array = np.asarray(image).astype(np.uint16) * 257
        converted = PIL.Image.fromarray(array)
    else:
        converted = image.convert(mode)
    assert converted.mode == mode
    assert_same(client.embed(IMAGE, [image, converted]), tolerance=0.01)


def test_a_pil_image_is_turned_as_its_file_is(client: Client, photo: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    with PIL.Image.open(photo) as image:
        exif = image.getexif()
        exif[PIL.ExifTags.Base.Orientation] = 6
        image.save(turned, exif=exif)
    with PIL.Image.open(turned) as image:
        rows = client.embed(IMAGE, [turned, image])
    assert_same(rows)
    assert np.abs(rows[0] - client.embed(IMAGE, [photo])[0]).max() > 1e-3 * np.abs(rows[0]).max()


def test_audio_may_come_in_many_ways(client: Client, speech: Path) -> None:
    wave, rate = soundfile.read(speech, dtype="float32")
    integers, _ = soundfile.read(speech, dtype="int16")
    stereo = np.stack([wave, wave], axis=1)
    items = [
        speech,
        speech.read_bytes(),
        Audio(speech),
        (wave, rate),
        Pcm(wave.astype(np.float64), rate),
        Pcm(integers, rate),
        Pcm(stereo, np.int64(rate)),
        Pcm(wave.astype(">f4"), rate),
    ]
    assert_same(client.embed(AUDIO, items))


def test_one_model_two_modalities(client: Client, photo: Path) -> None:
    rows = client.embed(TEXT_AND_IMAGE, ["a dog", photo, photo.read_bytes()])
    assert rows.shape == (3, 512)
    assert_same(rows[1:])


def test_failures_name_every_item_and_keep_the_rest(client: Client, tmp_path: Path) -> None:
    missing, broken = tmp_path / "missing.txt", tmp_path / "broken.txt"
    broken.write_bytes(b"\xff\xfe\xfd")
    items = ["good", missing, Item(Image(b"no image"), id="mine"), broken, "\ud800", tmp_path, "ok"]
    with pytest.raises(EmbedError) as caught:
        client.embed(TEXT, items)
    error = caught.value
    assert [(own.index, own.id, own.code) for own in error.failures] == [
        (1, str(missing), "NOT_FOUND"),
        (2, "mine", "INVALID_ARGUMENT"),
        (3, str(broken), "INVALID_ARGUMENT"),
        (4, "4", "INVALID_ARGUMENT"),
        (5, str(tmp_path), "INVALID_ARGUMENT"),
    ]
    assert all(own.message and own.reason for own in error.failures)
    assert [result.index for result in error.results] == list(range(7))
    assert error.results[0].vector.shape == error.results[6].vector.shape == (384,)
    assert "5 of 7 items failed" in str(error)
    assert f"[1] {missing}: cannot read" in str(error)
    with pytest.raises(EmbedError, match=r"missing\.txt"):
        _ = error.results[1].vector


def test_a_thousand_failures_stay_readable_and_can_be_pickled(client: Client) -> None:
    with pytest.raises(EmbedError) as caught:
        client.embed(TEXT, [Path(f"/missing/{number}.txt") for number in range(1000)])
    text = str(caught.value)
    assert "1000 of 1000 items failed" in text
    assert "995 more" in text
    assert len(text.splitlines()) < 10
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == text
    assert copy.failures == caught.value.failures


def test_a_file_too_large_for_a_message_fails_alone(client: Client, tmp_path: Path) -> None:
    large = tmp_path / "large.txt"
    large.write_bytes(b"a" * 64 * 2**20)
    with pytest.raises(EmbedError, match="1 of 2") as caught:
        client.embed(TEXT, [large, "small"])
    assert caught.value.failures[0].reason == "ITEM_TOO_LARGE"


def test_an_option_the_model_lacks_says_what_it_has(client: Client) -> None:
    with pytest.raises(EmbedError, match="mean"):
        client.embed(TEXT, ["a"], pooling="last")
    with pytest.raises(EmbedError, match="256"):
        client.embed(TEXT, ["word " * 500], truncation="refuse")


def test_unknown_models(client: Client) -> None:
    with pytest.raises(ModelNotFound, match=TEXT):
        client.embed("no-such-model", ["a"])
    with pytest.raises(ModelNotFound, match="no version '99'"):
        client.embed(TEXT, ["a"], version="99")


@pytest.mark.parametrize(
    ("items", "error", "says"),
    [
        ("one text", TypeError, "in a list"),
        (Path("one.txt"), TypeError, "in a list"),
        (7, TypeError, "in a list"),
        ([7], TypeError, "cannot embed a int"),
        ([None], TypeError, "cannot embed a NoneType"),
        ([b"bytes"], TypeError, "takes no images, audio or video"),
        ([(16_000, np.zeros(9))], TypeError, "samples, 16_000"),
        ([Pcm(np.zeros(9, np.int64), 16_000)], TypeError, "not int64"),
        ([Pcm(np.zeros((2, 2, 2)), 16_000)], ValueError, "samples, channels"),
        ([Item("a", model="resnet-50")], EmbedError, "takes image"),
    ],
)
def test_what_is_no_item(client: Client, items: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        client.embed(TEXT, items)  # type: ignore[call-overload]


def test_words_the_api_does_not_know(client: Client) -> None:
    with pytest.raises(ValueError, match="none, mean, cls, last"):
        client.embed(TEXT, ["a"], pooling="best")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="float32, float16"):
        client.embed(TEXT, ["a"], dtype="int4")  # type: ignore[call-overload]


def test_rows_of_two_models_do_not_mix(client: Client) -> None:
    with pytest.raises(ValueError, match="embed_stream"):
        client.embed(TEXT, ["a", Item("a", model=TEXT_AND_IMAGE)])


def test_a_stream_file_object_is_no_item_but_its_bytes_are(client: Client, photo: Path) -> None:
    with pytest.raises(TypeError, match="BytesIO"):
        client.embed(IMAGE, [io.BytesIO(photo.read_bytes())])
