"""What a task is trained for and judged by: losses, metrics, and the predictor that has seen no image."""
