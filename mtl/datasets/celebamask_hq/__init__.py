"""CelebAMask-HQ as it is published."""
