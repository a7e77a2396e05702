"""Pre-training speed beside a plain Hugging Face Trainer loop: the same network, objective, histories and thread.

    OMP_NUM_THREADS=1 python benchmarks/sequence_throughput.py

Both train the masked objective of careloop's Transformer for some passes over the same histories. The Trainer draws
rows at random and pads each batch to its longest row, as its data collators do, with as many rows a batch as give the
same number of events; careloop puts rows of like length together. Events a second count events only, never padding.
Two sets of histories: nafld's (real; needs the extra `examples`), and simulated ones with lengths as in a hospital
(geometric, mean 80, at most 512). The runs are paired and repeated in turn; printed are medians and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from careloop.models.sequence.arrays import FIRST_CODE, AnySequences, Sequences, TokenSpace
from careloop.models.sequence.batches import Batch, batch_rows, padded, padding_share
from careloop.models.sequence.network import NetworkShape
from careloop.models.sequence.training.fitting import Recipe
from careloop.models.sequence.training.loop import LoopSettings
from careloop.models.sequence.training.pretraining import PretrainingNetwork, masked_loss, pretrain_network

TOKENS = 4096  # padded events in a batch of careloop's
SHAPE = NetworkShape("transformer", 64, 2, 2, 0.1)


class Rows(torch.utils.data.Dataset[Any]):
    """Histories one by one, as the Trainer wants them."""

    def __init__(self, sequences: AnySequences) -> None:
        self.rows = [sequences.take(np.array([row])) for row in range(len(sequences))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Sequences:
        return self.rows[row]


class ForTrainer(nn.Module):
    """The same network with the keywords and the loss that the Trainer wants."""

    def __init__(self, space: TokenSpace) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model, self.random = PretrainingNetwork(space, SHAPE), torch.Generator().manual_seed(0)

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of a batch."""
        return {"loss": masked_loss(self.model, Batch(**batch), self.random).mean}


def collate(rows: list[Sequences]) -> dict[str, torch.Tensor]:
    """Rows padded to the longest of them."""
    from careloop.models.sequence.arrays import stacked

    return padded(stacked(rows))._asdict()


def by_trainer(sequences: AnySequences, space: TokenSpace, epochs: int) -> float:
    """Seconds that the Trainer takes."""
    rows = max(1, round(TOKENS / (sequences.lengths.mean() + 1)))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=rows, num_train_epochs=epochs, learning_rate=1e-3,
            use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            remove_unused_columns=False, optim="adamw_torch_fused", max_grad_norm=1.0,
        )  # fmt: skip
        trainer = Trainer(ForTrainer(space), arguments, data_collator=collate, train_dataset=Rows(sequences))
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def by_careloop(sequences: AnySequences, space: TokenSpace, epochs: int) -> float:
    """Seconds that careloop's loop takes."""
    settings = LoopSettings(tokens=TOKENS, max_epochs=epochs, patience=epochs, device="cpu")
    started = time.perf_counter()
    pretrain_network(Recipe(SHAPE, settings), space, sequences, None)
    return time.perf_counter() - started


def simulated(rows: int) -> tuple[Sequences, TokenSpace]:
    """Histories of random events."""
    random = np.random.default_rng(0)
    lengths = np.minimum(random.geometric(1 / 80, rows), 512)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    code = random.integers(FIRST_CODE, FIRST_CODE + 500, offsets[-1]).astype(np.int32)
    quantile = np.where(code % 2 == 0, random.integers(1, 11, len(code)), 0).astype(np.uint8)
    value = np.where(quantile > 0, random.normal(size=len(code)), np.nan).astype(np.float32)
    time_days = np.concatenate([np.sort(random.uniform(0, 30_000, n)) for n in lengths])
    space = TokenSpace(FIRST_CODE + 500, 10, np.zeros((FIRST_CODE + 500, 0), dtype=np.int32))
    return Sequences(offsets, code, quantile, value, time=time_days, at=np.full(rows, 30_000.0)), space


def nafld() -> tuple[AnySequences, TokenSpace]:
    """The whole histories of nafld's people."""
    import polars as pl

    from careloop.features.timelines import TimelinesSection, extract_timelines, fit_timelines
    from careloop.ingest import example_record
    from careloop.train.pretraining import whole_histories

    with tempfile.TemporaryDirectory() as folder:
        record = example_record("nafld", Path(folder) / "record")
        keys = whole_histories(record, pl.Series([], dtype=pl.Int64))
        recipe = fit_timelines(record, keys, TimelinesSection(), ())
        return extract_timelines(record, keys, recipe).sequences, recipe.token_space()


def compare(name: str, sequences: AnySequences, space: TokenSpace, *, repeats: int, epochs: int) -> None:
    """Print one line for each loop, and the ratio."""
    lengths, random = sequences.lengths, np.random.default_rng(0)
    per_batch = max(1, round(TOKENS / (lengths.mean() + 1)))
    plain = np.array_split(random.permutation(len(lengths)), max(1, len(lengths) // per_batch))
    waste = padding_share(lengths, plain), padding_share(lengths, batch_rows(lengths, TOKENS, random=random))
    times = [(by_trainer(sequences, space, epochs), by_careloop(sequences, space, epochs)) for _ in range(repeats)]
    events = (int(lengths.sum()) + len(lengths)) * epochs
    print(
        f"\n{name}: {len(lengths):,} histories, {int(lengths.sum()):,} events, {epochs} passes, {repeats} pairs of runs"
    )
    for who, place in (("Hugging Face Trainer", 0), ("careloop", 1)):
        seconds = statistics.median(pair[place] for pair in times)
        print(f"  {who:<22}{events / seconds:>10,.0f} events/s   padding {waste[place]:.1%}")
    ratios = [trainer / ours for trainer, ours in times]
    print(
        f"  careloop is {statistics.median(ratios):.2f} times as fast (pairs: {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4000, help="simulated histories")
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name, (sequences, space) in {"nafld (real)": nafld(), "simulated": simulated(options.rows)}.items():
        compare(name, sequences, space, repeats=options.repeats, epochs=options.epochs)
