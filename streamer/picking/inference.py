"""The network on batches of steps: the only importer of torch in the daemon."""

import numpy as np
import numpy.typing as npt
import torch

from model.artifact import Artifact
from model.preprocess import BLOCK, normalise
from streamer.picking.track import Context, Step


class Inference:
    """Preprocessing and forward pass of one artifact. Holds no state of stations."""

    def __init__(self, artifact: Artifact) -> None:
        # More threads per forward gain nothing on these small convolutions and fight with the other
        # processes of an acquisition server; a host is filled by more processes.
        torch.set_num_threads(1)
        self.artifact = artifact
        self.context = Context(
            history=artifact.card.preprocess.history_blocks,
            network=artifact.card.network.context_blocks,
        )

    def probabilities(self, batch: list[Step]) -> npt.NDArray[np.float32]:
        """Probabilities (len(batch), 2, blocks x 100) of P and S for the new blocks of each step.

        All steps of a batch have the same number of blocks. Where a station has no data it is 0.
        """
        samples = np.stack([step.samples for step in batch])
        valid = np.stack([step.valid for step in batch])
        prepared = normalise(samples, valid, self.artifact.card.preprocess)
        window = np.ascontiguousarray(prepared[..., self.context.history * BLOCK :])
        with torch.inference_mode():
            logits, _ = self.artifact.model(torch.from_numpy(window))
            probability = torch.sigmoid(logits).numpy()
        edge = self.context.network * BLOCK
        recorded = valid[..., self.context.history :].any(axis=1).repeat(BLOCK, axis=-1)
        result = np.where(recorded[:, None], probability, np.float32(0))[..., edge:-edge]
        return np.ascontiguousarray(result)
