"""Images with less noise and blur, without findings invented or erased."""
