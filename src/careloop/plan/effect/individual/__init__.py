"""How effects differ between patients, and whether that is shown."""
