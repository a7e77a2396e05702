"""Training of networks over sequences: one loop, fine-tuning, pre-training, several devices."""
