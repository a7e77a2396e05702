"""Images of every kind read into volumes with checked geometry and physical units."""
