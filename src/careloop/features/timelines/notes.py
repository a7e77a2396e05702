"""Notes as vectors: each text through a frozen Hugging Face encoder of this machine, mean-pooled over its tokens.

Nothing is downloaded and no pickled weights are opened. A text that is longer than what the encoder reads at once is
cut into windows that overlap, so that a sentence at an edge stands whole in one; the mean is over the tokens of all.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.models.network_loop import cpu_threads

FOLDER_VARIABLE = "CARELOOP_TEXT_ENCODER"
VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")
# What of a folder decides on the vectors: configuration, weights and tokenizer.
TOKENIZER_FILES = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
READ_FILES = ("config.json", "*.safetensors", *TOKENIZER_FILES)
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
DEFAULT_POSITIONS = 512  # of an encoder whose configuration names no limit
OVERLAP = 4  # windows share one part in so many of their tokens
TEXTS_AT_ONCE = 512  # tokenised together, of like length
GPU_TOKENS = 16_384  # of a batch
SHOWN_DIGITS = 12  # of a SHA-256 in messages

Progress = Callable[[int, int], None]  # texts that are done, of how many
_ALONE = threading.Lock()  # tokenizers are not safe in two threads, and one encoder uses all cores by itself


@dataclass(frozen=True)
class TextEncoder:
    """Which encoder notes are read through: its folder's name, a SHA-256 of its files, numbers of its vectors."""

    name: str
    sha256: str
    width: int

    @property
    def words(self) -> str:
        """Name and beginning of the SHA-256, for messages."""
        return f"{self.name} (SHA-256 {self.sha256[:SHOWN_DIGITS]}...)"


@dataclass(frozen=True)
class NoteReader:
    """A text encoder where it lies on this machine."""

    encoder: TextEncoder
    folder: Path

    def vectors(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float16]:
        """Vectors (n, width) of texts (n), the same ones whatever other texts there are.

        On a CPU each window is computed alone, which costs little there and keeps a vector's bytes from depending on
        the other texts; on a GPU windows of one length are computed together.
        """
        import torch

        threads = min(torch.get_num_threads(), pl.thread_pool_size())  # of which a worker process has its share
        with _ALONE, cpu_threads(threads):
            opened = _opened(self.folder, self.encoder.sha256)
            found = np.zeros((len(texts), self.encoder.width), dtype=np.float16)
            order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
            for start in range(0, len(order), TEXTS_AT_ONCE):
                some = order[start : start + TEXTS_AT_ONCE]
                found[some] = _pooled([texts[i] for i in some], opened, self.encoder.width)
                if progress is not None:
                    progress(start + len(some), len(texts))
        if not np.isfinite(found).all():
            raise InputError(f"text encoder {self.encoder.words}: its vectors are not finite; give another encoder")
        return found


def identified(folder: str | Path) -> TextEncoder:
    """Which encoder lies in `folder`, else in the folder that the environment's CARELOOP_TEXT_ENCODER names.

    Raises:
        InputError: no folder, or it holds no encoder with tokenizer and safetensors.
    """
    place = _place(folder)
    _check_files(place)
    width = getattr(_configuration(place), "hidden_size", None)
    if not isinstance(width, int):
        raise InputError(
            f"text encoder {place}: its config.json names no hidden_size; give a text encoder such as BERT"
        )
    return TextEncoder(place.resolve().name, _sha256(place), width)


def reader_of(encoder: TextEncoder, folder: str | Path | None) -> NoteReader:
    """The encoder's reader, from `folder` or the one that the environment's CARELOOP_TEXT_ENCODER names.

    Raises:
        InputError: the folder is missing, or holds another encoder.
    """
    place = _place(folder or encoder.name)
    remedy = f"set {FOLDER_VARIABLE} to a folder that holds it"
    if not place.is_dir():
        raise InputError(f"notes are read through the text encoder {encoder.words}; no folder {place}: {remedy}")
    _check_files(place)
    found = _sha256(place)
    if found != encoder.sha256:
        raise InputError(
            f"notes are read through the text encoder {encoder.words}; {place} holds another one (SHA-256"
            f" {found[:SHOWN_DIGITS]}...): {remedy}"
        )
    return NoteReader(encoder, place.resolve())


def _place(folder: str | Path) -> Path:
    return Path(os.environ.get(FOLDER_VARIABLE) or folder).expanduser()


def _check_files(folder: Path) -> None:
    """InputError unless the folder holds a configuration, safetensors and a tokenizer."""
    if not folder.is_dir():
        raise InputError(
            f"text encoder: no folder {folder}; nothing is downloaded, so give a folder of this machine with"
            " config.json, safetensors and tokenizer of a Hugging Face encoder"
        )
    if not (folder / "config.json").is_file():
        raise InputError(f"text encoder {folder}: no config.json; write the folder with transformers' save_pretrained")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(file.name for pattern in PICKLED for file in folder.glob(pattern))
        why = f"{pickled[0]} is a pickle or another format, which careloop never opens" if pickled else "no weights"
        raise InputError(
            f"text encoder {folder}: {why}; write its weights as safetensors with transformers' save_pretrained"
        )
    if not any(file for pattern in VOCABULARIES for file in folder.glob(pattern)):
        raise InputError(f"text encoder {folder}: no tokenizer; write its tokenizer there with save_pretrained")


def _sha256(folder: Path) -> str:
    """A hash of the files that decide on the vectors, by name and content."""
    files = sorted({file for pattern in READ_FILES for file in folder.resolve().glob(pattern) if file.is_file()})
    return _digest(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=4)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Kept, because weights are large, until a size or a date of one of the files changes."""
    digest = hashlib.sha256()
    for file, *_ in files:
        with file.open("rb") as stream:
            digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class _Encoder:
    """A loaded encoder; `most_tokens` is how many it reads at once, special ones among them."""

    tokenizer: Any
    model: Any
    most_tokens: int


@lru_cache(maxsize=1)
def _opened(folder: Path, sha256: str) -> _Encoder:
    """The encoder of a folder, whose files have this hash."""
    import torch

    _configuration(folder)
    with _errors_of(folder), _quietly():
        from transformers import AutoModel, AutoTokenizer

        here = {"local_files_only": True, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **here)
        model, report = AutoModel.from_pretrained(
            str(folder), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **here
        )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = model.requires_grad_(False).eval().to(device)
        with torch.inference_mode():
            states = model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=device)).last_hidden_state
        if states.shape[-1] != model.config.hidden_size or len(tokenizer) > model.config.vocab_size:
            raise ValueError("tokenizer and vectors are not of the size that config.json names")
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise InputError(f"text encoder {folder}: its weights lack {missing[0]}; write them again with save_pretrained")
    if not tokenizer.is_fast:
        raise InputError(f"text encoder {folder}: its tokenizer has no fast form; write a tokenizer.json there")
    return _Encoder(tokenizer, model, _most_tokens(tokenizer, model))


def _configuration(folder: Path) -> Any:
    """The encoder's configuration. InputError for one that is none, or of an encoder with a decoder."""
    with _errors_of(folder), _quietly():
        from transformers import AutoConfig

        found = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if getattr(found, "is_encoder_decoder", False):
        raise InputError(
            f"text encoder {folder}: {found.model_type} is an encoder with a decoder; give an encoder such as BERT"
        )
    return found


def _most_tokens(tokenizer: Any, model: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None) or DEFAULT_POSITIONS
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    # RoBERTa and its kin count positions from behind the padding token's number on.
    return int(min(tokenizer.model_max_length, positions - (0 if padding is None else padding + 1)))


def _pooled(texts: list[str], encoder: _Encoder, width: int) -> NDArray[np.float64]:
    """The mean over the tokens of each text's windows (n, width)."""
    import torch

    content = encoder.most_tokens - encoder.tokenizer.num_special_tokens_to_add()
    cut = encoder.tokenizer(
        texts,
        truncation=True,
        max_length=encoder.most_tokens,
        stride=max(1, content // OVERLAP) if content > 1 else 0,
        return_overflowing_tokens=True,
        return_attention_mask=False,
    )
    windows, owner = cut["input_ids"], np.array(cut["overflow_to_sample_mapping"])
    sums, counts = np.zeros((len(texts), width)), np.zeros(len(texts))
    with torch.inference_mode():
        for some in _of_one_length([len(window) for window in windows], encoder.model.device.type):
            tokens = torch.tensor([windows[i] for i in some], device=encoder.model.device)
            states = encoder.model(input_ids=tokens).last_hidden_state
            np.add.at(sums, owner[some], states.sum(dim=1).cpu().numpy())
            np.add.at(counts, owner[some], tokens.shape[1])
    found: NDArray[np.float64] = sums / np.maximum(counts, 1)[:, None]
    return found


def _of_one_length(lengths: list[int], device: str) -> Iterator[list[int]]:
    """Windows of one length together, so that none is padded: as many as fit on a GPU, one on a CPU."""
    order = sorted((i for i in range(len(lengths)) if lengths[i]), key=lambda i: lengths[i])
    some: list[int] = []
    for i in order:
        full = device == "cpu" or (len(some) + 1) * lengths[i] > GPU_TOKENS
        if some and (full or lengths[i] != lengths[some[0]]):
            yield some
            some = []
        some.append(i)
    if some:
        yield some


@contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    """Whatever makes transformers fail on a folder, as an InputError."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f'text encoders need {error.name or "transformers"}; install it with pip install "careloop[deep]"'
        ) from None
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        raise InputError(
            f"text encoder {folder}: transformers cannot open it ({type(error).__name__}: {reason[0][:200]}); give a"
            " folder that AutoModel and AutoTokenizer open without code of its own"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Transformers without progress bars and warnings."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
