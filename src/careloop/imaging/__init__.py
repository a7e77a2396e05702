"""Medical images: series with checked geometry in; labels and measurements out, as files, DICOM objects and events."""
