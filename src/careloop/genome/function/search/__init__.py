"""Proteins alike in a library: hits by DIAMOND, or by seeds and Smith-Waterman alignment of this room."""
