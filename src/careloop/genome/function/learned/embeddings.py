"""Proteins as vectors of a pretrained protein language model (ESM, ProtT5, ProtBERT) in a folder of this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.function.proteins import AMINO_ACIDS, LETTERS

# Residues read at once: ESM-1b and ESM-2 were trained on up to 1,024 tokens, two of them special (Rives et al., PNAS
# 2021;118:e2016239118; Lin et al., Science 2023;379:1123); longer proteins are read in windows that overlap.
WINDOW = 1022
OVERLAP = 256
BATCH_RESIDUES = 4096
# Weights that transformers makes anew, and that the vectors of residues do not depend on.
NOT_NEEDED = ("pooler", "contact_head")
READ_FILES = ("*.json", "*.safetensors", "vocab.txt", "spiece.model")
Progress = Callable[[str, int, int], None]
Stamps = tuple[tuple[Path, int, int], ...]  # files with size and date of change (nanoseconds)


@dataclass(frozen=True, eq=False)
class ProteinEncoder:
    """An opened protein language model, whose last layer gives each residue a vector of `width` numbers.

    `sha256` is of the files that decide on the vectors: what was fitted to one model's vectors is of no use with
    another's. `tokens` (128,) the number of each letter's token by its ASCII code; `before` and `after` are the special
    tokens around a sequence; `window` residues are read at once.
    """

    folder: Path
    name: str
    width: int
    sha256: str
    window: int
    model: Any
    tokens: NDArray[np.int64]
    before: tuple[int, ...]
    after: tuple[int, ...]
    padding: int

    def embed(self, sequences: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """(n, width) the mean over each sequence's residues; zeros for an empty sequence."""
        sums = np.zeros((len(sequences), self.width), dtype=np.float64)
        for place, start, states in self._states(sequences, progress):
            share = 1 / _readings(len(sequences[place]), self.window)[start : start + len(states)]
            sums[place] += share @ states
        lengths = np.array([max(len(sequence), 1) for sequence in sequences], dtype=np.float64)
        return (sums / lengths[:, None]).astype(np.float32)

    def residues(self, sequence: str) -> NDArray[np.float32]:
        """(length, width) one vector a residue; where windows overlap, the mean of their readings."""
        found = np.zeros((len(sequence), self.width), dtype=np.float64)
        for _, start, states in self._states([sequence], None):
            found[start : start + len(states)] += states
        return (found / _readings(len(sequence), self.window)[:, None]).astype(np.float32)

    def _states(
        self, sequences: Sequence[str], progress: Progress | None
    ) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Of each window: the sequence's place, the window's start, and its residues' vectors."""
        import torch

        cut = [
            (place, start, min(self.window, len(sequence)))
            for place, sequence in enumerate(sequences)
            for start in window_starts(len(sequence), self.window)
        ]
        first, done = len(self.before), 0
        for some in _batches([length for *_, length in cut]):
            ids, mask = self._padded([sequences[cut[i][0]][cut[i][1] :][: cut[i][2]] for i in some])
            with torch.inference_mode():
                states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.cpu().numpy()
            for row, i in enumerate(some):
                place, start, length = cut[i]
                yield place, start, states[row, first : first + length]
            done += len(some)
            if progress is not None:
                progress("reading windows of proteins", done, len(cut))

    def _padded(self, windows: Sequence[str]) -> tuple[Any, Any]:
        """Token numbers and which of them are read, both (windows, longest)."""
        import torch

        letters = (np.frombuffer(window.encode("ascii"), dtype=np.uint8) for window in windows)
        whole = [np.concatenate([self.before, self.tokens[some], self.after]).astype(np.int64) for some in letters]
        ids = np.full((len(whole), max(map(len, whole))), self.padding, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(whole):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        device = self.model.device
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def embed(sequences: Sequence[str], folder: Path, *, progress: Progress | None = None) -> NDArray[np.float32]:
    """(n, width) mean vectors by the model in `folder` (`open_encoder`), which stays open for the next call."""
    return open_encoder(folder).embed(sequences, progress=progress)


def open_encoder(folder: Path) -> ProteinEncoder:
    """Open a folder with config.json, safetensors and vocabulary, as transformers' `save_pretrained` writes it.

    Of a model with a decoder (ProtT5: Elnaggar et al., IEEE TPAMI 2022;44:7112) the encoder is taken. Nothing is
    downloaded or unpickled, and no code of the folder is run.

    Raises:
        InputError: no such folder, weights that lack a part or are no safetensors, or tokens that are not residues.
    """
    place = folder.expanduser().resolve()
    return _opened(place, _stamps(place))


def encoder_sha256(folder: Path) -> str:
    """The hash of the model in a folder, as `ProteinEncoder.sha256` has it, without opening it.

    Raises:
        InputError: the folder is none of such a model.
    """
    return _sha256(_stamps(folder.expanduser().resolve()))


@lru_cache(maxsize=1)
def _opened(folder: Path, stamps: Stamps) -> ProteinEncoder:
    """Kept until a size or a date of one of the files changes."""
    with _errors_of(folder):
        tokenizer, model, missing = _loaded(folder)
    lacking = sorted(name for name in missing if not any(part in name for part in NOT_NEEDED))
    if lacking:
        raise InputError(f"protein encoder {folder}: its weights lack {lacking[0]}; write them anew by save_pretrained")
    last = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    before, after = (tuple(i for i in (token,) if i is not None) for token in (tokenizer.cls_token_id, last))
    return ProteinEncoder(
        folder=folder,
        name=f"{model.config.model_type} of {model.config.num_hidden_layers} layers",
        width=int(model.config.hidden_size),
        sha256=_sha256(stamps),
        window=_window(model, len(before) + len(after)),
        model=model,
        tokens=_residue_tokens(tokenizer, folder),
        before=before,
        after=after,
        padding=int(tokenizer.pad_token_id or 0),
    )


def window_starts(length: int, window: int) -> list[int]:
    """Where windows over a sequence begin: the last ends with it, and neighbours overlap where there is room."""
    if length <= window:
        return [0] if length else []
    step = max(window - OVERLAP, 1)
    return [*range(0, length - window, step), length - window]


def _readings(length: int, window: int) -> NDArray[np.float64]:
    """(length,) in how many windows each residue lies."""
    counts = np.zeros(length)
    for start in window_starts(length, window):
        counts[start : start + window] += 1
    return counts


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of windows of like length, at most `BATCH_RESIDUES` together, padding counted."""
    some: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if some and (len(some) + 1) * lengths[i] > BATCH_RESIDUES:
            yield some
            some = []
        some.append(i)
    if some:
        yield some


def _stamps(folder: Path) -> Stamps:
    """The files that decide on the vectors. InputError where the folder lacks one that it must have."""
    if not (folder / "config.json").is_file():
        raise InputError(
            f"a protein encoder is a folder with config.json, safetensors and vocabulary; {folder} is none: write it"
            " with transformers' save_pretrained"
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"a protein encoder's weights are safetensors, never a pickle; {folder} has none: write them with"
            " transformers' save_pretrained"
        )
    files = sorted({file for pattern in READ_FILES for file in folder.glob(pattern)})
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _loaded(folder: Path) -> tuple[Any, Any, Sequence[str]]:
    """The tokenizer, the encoder on its device, and names of the weights that the folder lacks."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if getattr(config, "is_folding_model", False):
        raise ValueError("a model that folds proteins is no encoder")
    kind: Any = T5EncoderModel if config.model_type == "t5" else AutoModel
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    model, report = kind.from_pretrained(
        str(folder),
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return tokenizer, model.requires_grad_(False).eval().to(device), report["missing_keys"]


def _residue_tokens(tokenizer: Any, folder: Path) -> NDArray[np.int64]:
    """Each letter's token by ASCII code; letters that the vocabulary lacks, and any other, are read as X (unknown)."""
    vocabulary = tokenizer.get_vocab()
    # SentencePiece, which ProtT5 uses, marks the beginning of a word by U+2581.
    found = {letter: vocabulary.get("\u2581" + letter, vocabulary.get(letter)) for letter in LETTERS}
    absent = [letter for letter in AMINO_ACIDS + "X" if found[letter] is None]
    if absent:
        raise InputError(f"a protein encoder has a token for each residue; that of {folder} lacks {absent[0]}")
    tokens = np.full(128, found["X"], dtype=np.int64)
    for letter, token in found.items():
        if token is not None:
            tokens[ord(letter)] = token
    return tokens


def _window(model: Any, special: int) -> int:
    """How many residues are read at once, by the positions that the model has."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return WINDOW
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    # ESM-1b counts positions from behind the padding token's number on.
    return min(WINDOW, int(positions) - (0 if padding is None else padding + 1) - special)


@lru_cache(maxsize=2)
def _sha256(stamps: Stamps) -> str:
    """A hash of files by name and content."""
    digest = hashlib.sha256()
    for file, *_ in stamps:
        with file.open("rb") as stream:
            digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


@contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    """Whatever makes transformers fail on a folder, as an InputError; transformers without progress bars."""
    try:
        from transformers.utils import logging
    except ImportError as error:
        raise InputError(f'protein encoders need {error.name}: pip install "careloop[deep]"') from None
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise InputError(
            f"protein encoder {folder}: transformers cannot open it ({type(error).__name__}: {reason}); give a folder"
            " of ESM, ProtT5 or ProtBERT that opens without code of its own"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
