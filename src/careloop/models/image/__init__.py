"""Networks over images: torch modules only, without training or files."""
