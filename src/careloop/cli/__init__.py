"""The command line: one thin function a command; results are one table or one JSON object, errors one line."""

from careloop.cli import (
    ask,
    data,
    estimate,
    genome,
    genome_calls,
    genome_findings,
    image,
    image_models,
    image_restoration,
    insight,
    loop,
    pretrain,
    privacy,
    quality,
    treatment,
)
from careloop.cli.command import cli, main

__all__ = [
    "ask",
    "cli",
    "data",
    "estimate",
    "genome",
    "genome_calls",
    "genome_findings",
    "image",
    "image_models",
    "image_restoration",
    "insight",
    "loop",
    "main",
    "pretrain",
    "privacy",
    "quality",
    "treatment",
]
