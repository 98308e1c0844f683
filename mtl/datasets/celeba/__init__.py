"""CelebA as it is published."""
