"""MSNet: samples -> probabilities -> onsets. Imports nothing of ours."""
