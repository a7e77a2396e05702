"""Results as DICOM SEG, SR and secondary capture, as NIfTI, and to a PACS."""
