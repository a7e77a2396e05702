"""A segmentation network trained from a folder of images and labels."""
