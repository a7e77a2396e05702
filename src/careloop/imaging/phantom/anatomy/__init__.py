"""What a simulated chest is made of: measures that differ between patients, and the shapes and tissues they give."""
