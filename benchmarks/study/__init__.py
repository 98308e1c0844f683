"""Does it pay on real images? NYU-v2 and CelebAMask-HQ, as a user would find out: `python -m benchmarks.study`."""
