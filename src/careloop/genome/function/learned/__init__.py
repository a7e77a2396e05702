"""A network that learns terms from sequences: what it reads, its training, its predictions and what they rest on."""
