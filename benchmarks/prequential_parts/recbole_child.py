"""RecBole's SASRec, run by the Python of the peers' virtual environment.

PYTHON -m benchmarks.prequential_parts.recbole_child LOG.npz OUTCOME.npz '{"epochs": 10, ...}'
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.prequential_parts.fallback import Refitted
from benchmarks.prequential_parts.log import Log
from benchmarks.prequential_parts.protocol import run
from benchmarks.prequential_parts.records import save_outcome

_NAME = "log"


class RecboleSasrec(Refitted):
    """SASRec as RecBole builds, augments and trains it, from scratch every 14 days; histories are of the moment.

    What is not named is RecBole's default: width 64, two layers, two heads, histories of 50, full cross-entropy,
    Adam at 0.001 in batches of 2,048 prefixes.

    Args:
        items: N, padding included.
        epochs: Passes over all prefixes of a fit.
        batch: Prefixes per step.
        dropout: Of hidden and attention layers.
        seed: Source of every random choice.

    Source: Zhao et al., "RecBole", CIKM 2021; Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.
    """

    def __init__(self, items: int, *, epochs: int, batch: int = 2_048, dropout: float = 0.5, seed: int = 0) -> None:
        super().__init__(items)
        self._given: dict[str, Any] = {"epochs": epochs, "train_batch_size": batch, "seed": seed}
        self._given |= {"hidden_dropout_prob": dropout, "attn_dropout_prob": dropout}
        self._length = 50
        self._tokens: npt.NDArray[np.int64] = np.zeros(0, np.int64)  # RecBole's number of each of our items
        self.model: Any = None

    def fit(self, past: Log) -> None:
        """Write the log in RecBole's form, augment it to prefixes and train."""
        from recbole.config import Config  # noqa: PLC0415 - only the peers' environment has it
        from recbole.data import create_dataset  # noqa: PLC0415
        from recbole.data.utils import get_dataloader  # noqa: PLC0415
        from recbole.model.sequential_recommender import SASRec  # noqa: PLC0415
        from recbole.trainer import Trainer  # noqa: PLC0415

        with tempfile.TemporaryDirectory() as folder:
            _write(past, Path(folder) / _NAME)
            config = Config(model="SASRec", dataset=_NAME, config_dict=self._settings(folder))
            dataset = create_dataset(config)
            dataset._change_feat_format()  # noqa: SLF001 - every prefix is a sample; `build` would also split some off
            self.model = SASRec(config, dataset)
            loader = get_dataloader(config, "train")(config, dataset, None, shuffle=True)
            trainer = Trainer(config, self.model)
            trainer.fit(loader, None, verbose=False, saved=False, show_progress=False)
        self.model.eval()
        number_of = dataset.field2token_id["item_id"]
        self._tokens = np.array([number_of.get(str(item), 0) for item in range(self.fitted)], np.int64)

    def predict(self, users: list[int], histories: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.float32]:
        """Read each history with the last fit's weights."""
        import torch  # noqa: PLC0415 - only the peers' environment has theirs

        padded = torch.zeros(len(users), self._length, dtype=torch.int64)
        lengths = torch.ones(len(users), dtype=torch.int64)
        for place, history in enumerate(histories):
            known = self._tokens[history]
            kept = known[known > 0][-self._length :]
            padded[place, : len(kept)] = torch.from_numpy(kept)
            lengths[place] = max(1, len(kept))
        with torch.inference_mode():
            scores = self.model.full_sort_predict({"item_id_list": padded, "item_length": lengths}).numpy()
        scores[:, 0] = scores.min(axis=1)  # RecBole's padding stands in for items that the fit never saw
        ours: npt.NDArray[np.float32] = scores[:, self._tokens]
        return ours

    def _settings(self, folder: str) -> dict[str, Any]:
        return self._given | {
            "data_path": folder,
            "checkpoint_dir": f"{folder}/checkpoints",
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "TIME_FIELD": "timestamp",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": self._length,
            "train_neg_sample_args": None,  # full cross-entropy
            "loss_type": "CE",
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            "worker": 0,
        }


def _write(log: Log, folder: Path) -> None:
    """Write a log as RecBole reads it; the place in the log is the time, so that order never ties."""
    folder.mkdir(parents=True)
    lines = [f"{user}\t{item}\t{place}" for place, (user, item) in enumerate(zip(log.users, log.items, strict=True))]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / f"{_NAME}.inter").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def main() -> None:
    """Run the peer over a log."""
    import torch  # noqa: PLC0415 - only the peers' environment has theirs

    torch.set_num_threads(1)
    log_file, outcome_file, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    log = Log.load(log_file)
    save_outcome(outcome_file, run(RecboleSasrec(log.catalogue, **settings), log))


if __name__ == "__main__":
    main()
