"""Whisper's log-mel spectrogram as a graph of convolutions.

The definition is transformers' WhisperFeatureExtractor: 25 ms Hann windows
every 10 ms, power spectrum, Slaney mel filters, log10 with a floor 8 decades
under the loudest value of the row, then (x + 4) / 4.
"""

import math

import torch
from transformers import WhisperFeatureExtractor

_LOG_FLOOR = 1e-10
_RANGE_DECADES = 8.0


class LogMelSpectrogram(torch.nn.Module):
    """float32 waveform [batch, samples] to log-mel [batch, mels, samples / hop].

    The Fourier transform is one convolution with windowed cosines and sines:
    every provider has it, and the basis, made in float64, keeps its error far
    under the floor.
    """

    basis: torch.Tensor
    filters: torch.Tensor

    def __init__(self, extractor: WhisperFeatureExtractor) -> None:
        super().__init__()
        size = extractor.n_fft
        self.size, self.hop = size, extractor.hop_length
        time = torch.arange(size, dtype=torch.float64)
        # Frequency 0 and size/2 included; the angle is reduced before the cosine for accuracy.
        cycles = torch.outer(torch.arange(size // 2 + 1, dtype=torch.float64), time) % size / size
        window = torch.hann_window(size, periodic=True, dtype=torch.float64)
        basis = torch.cat([torch.cos(2 * math.pi * cycles), torch.sin(2 * math.pi * cycles)])
        self.register_buffer("basis", (basis * window).float().unsqueeze(1))
        # The filters are a convolution of width 1: [mels, frequencies, 1].
        filters = torch.from_numpy(extractor.mel_filters.T).float().unsqueeze(-1)
        self.register_buffer("filters", filters)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return the log-mel spectrogram."""
        # Frames are centred, the edges mirrored. The extractor drops the frame centred
        # on the end, so the right edge needs one hop less.
        edge = self.size // 2
        padded = torch.nn.functional.pad(
            waveform.unsqueeze(1), (edge, edge - self.hop), mode="reflect"
        )
        parts = torch.nn.functional.conv1d(padded, self.basis, stride=self.hop)
        cosines, sines = parts.chunk(2, dim=1)
        mel = torch.nn.functional.conv1d(cosines * cosines + sines * sines, self.filters)
        log = mel.clamp(min=_LOG_FLOOR).log10()
        loudest = log.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(log, loudest - _RANGE_DECADES) + 4.0) / 4.0
