"""A tiny BERT with random weights and a vocabulary of a few words, and notes of these words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FILLER = ("the", "patient", "was", "seen", "today", "on", "ward", "and", "sleeps", "well", "eats", "walks", "some")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "high", "fever", "##s", ".", ",", *FILLER)
WIDTH, POSITIONS = 32, 40


def write_encoder(folder: Path, *, seed: int = 0, **settings: Any) -> Path:
    """Write the encoder with weights of this seed as a folder; `settings` change its configuration."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=POSITIONS, **sizes, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


def written_note(random: np.random.Generator, *, fever: bool, words: int = 24) -> str:
    """A note of these many words, two of which, somewhere, are `high fever` or `no fever`."""
    text = random.choice(FILLER, words - 2).tolist()
    place = int(random.integers(0, words - 1))
    return " ".join([*text[:place], "high" if fever else "no", "fever", *text[place:]])
