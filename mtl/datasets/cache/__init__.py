"""Images and labels at one size, decoded once on a machine."""
