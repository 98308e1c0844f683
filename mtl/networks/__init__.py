"""The networks: made, saved, loaded, trained again in small, exported, measured, and asked for predictions."""
