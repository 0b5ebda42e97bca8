"""The text example with the real package `transformers`, on small models that are made here: nothing is downloaded."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.two_ranks import fit_rank, on_two_ranks
from tests.unit.example_fits import FOLDER, quiet_trainer
from trainer_app.config import dump, load, override
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.text_classifier import TextClassifier, TextDataModule
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run.prepare import resolve_choices
from trainer_app.storage import open_store
from trainer_app.training.export import export
from trainer_app.training.predict import PredictRequest, predict

FOUND = find_spec("transformers")
pytestmark = [
    *(pytest.mark.local, pytest.mark.full, pytest.mark.filterwarnings("ignore")),
    pytest.mark.skipif(FOUND is None, reason="needs transformers: make test-huggingface"),
]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "sleeps", "runs"]
# Each with the names that its configuration has for the same sizes.
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
KINDS: dict[str, dict[str, Any]] = {
    "Bert": SMALL,
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "Roberta": {**SMALL, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
}


LENGTHS = ["model.init_args.max_length=64", "data.init_args.max_length=64"]


def make_model(folder: Path, kind: str = "Bert") -> Path:
    """Write a model of random weights, and a tokenizer of ten words, as `save_pretrained` does."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(vocab_size=len(WORDS), max_position_embeddings=64, **KINDS[kind])
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    transformers.BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    return folder


def make_texts(folder: Path) -> Path:
    """Write sentences that end in a verb, and others."""
    rows = [f"a {noun} {verb}\t1\na {verb} {noun}\t0\n" for noun in ("cat", "dog") for verb in ("sleeps", "runs")]
    (folder / "texts.tsv").write_text("sentence\tlabel\n" + "".join(rows) * 8)
    return folder / "texts.tsv"


def from_folder(model: Path, texts: Path) -> list[str]:
    """Return what the run file of the example needs to be changed."""
    changes = {"model.init_args.weights": model, "data.init_args.tokenizer": model, "data.init_args.source": texts}
    return [f"{key}={value}" for key, value in changes.items()] + LENGTHS


def set_up(model: Path, texts: Path, **init_args: Any) -> tuple[TextClassifier, TextDataModule]:
    data = {"source": str(texts), "tokenizer": str(model), "max_length": 64}
    return (
        TextClassifier(**TextClassifier.resolve_init_args({"weights": str(model), "max_length": 64, **init_args})),
        TextDataModule(**TextDataModule.resolve_init_args(data)),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_weights_and_tokens_are_those_of_the_folder(tmp_path: Path, kind: str, form: str) -> None:
    import transformers

    folder = make_model(tmp_path / "model", kind)
    theirs = transformers.AutoModel.from_pretrained(str(folder)).state_dict()
    if form == "pytorch_model.bin":
        torch.save(theirs, folder / form)
        (folder / "model.safetensors").unlink()
    model, data = set_up(folder, make_texts(tmp_path), lr=1e-9)
    run = quiet_trainer(max_epochs=1)
    run.fit(model, datamodule=data)
    assert data.train.tensors[0][0].tolist() == [2, 5, 6, 8, 3]  # [CLS] a cat sleeps [SEP]
    loaded = model.network.encoder.state_dict()
    assert theirs.keys() - loaded.keys() <= {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(torch.allclose(theirs[name], weight, atol=1e-6) for name, weight in loaded.items())
    run.save_checkpoint(tmp_path / "model.ckpt")
    shutil.rmtree(folder)
    restored = TextClassifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert all(torch.equal(loaded[name], weight) for name, weight in restored.network.encoder.state_dict().items())


@pytest.mark.parametrize(
    "missing, said",
    [
        ("model.safetensors", r"/model: AutoModel can't read it; a folder as save_pretrained writes it is needed"),
        ("tokenizer.json", r"/model: holds no tokenizer, vocab.txt or tokenizer.json; a folder as save_pretrained"),
    ],
)
def test_a_folder_without_weights_or_tokenizer_is_refused_in_a_line(tmp_path: Path, missing: str, said: str) -> None:
    folder = make_model(tmp_path / "model")
    (folder / missing).unlink()
    model, data = set_up(folder, make_texts(tmp_path))
    with pytest.raises(DataError, match=said) as e:
        quiet_trainer(fast_dev_run=True).fit(model, datamodule=data)
    assert "\n" not in str(e.value)


def test_two_ranks_train_and_resume_and_the_run_predicts_and_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray: DDP refuses parameters that get no gradient."""
    monkeypatch.chdir(tmp_path)
    model, texts, store = make_model(tmp_path / "bert"), make_texts(tmp_path), open_store(str(tmp_path / "runs"))
    changes = [*from_folder(model, texts), "scaling.num_workers=2", "scaling.use_gpu=false"]
    config, _ = resolve_choices(load([FOLDER / "text_classifier/train.yaml"], changes))
    RunFolder.create(store, RunRecord(name="r", task="train", state="succeeded"), dump(config))
    for epochs in (1, 2):
        ends = on_two_ranks(fit_rank, override(config, {"trainer.max_epochs": epochs}), store.uri, limit_s=200)
        assert [(how, len(reports)) for how, reports in ends] == [("returned", 1)] * 2
    shutil.rmtree(model)
    pd.DataFrame({"tokens": [[2, 5, 6, 8, 3], [2, 5, 8, 6, 3]] * 4}).to_parquet("rows.parquet")
    predict(store, "r", PredictRequest("out.parquet", "rows.parquet", columns=("tokens",)))
    export(store, "r", "net.safetensors", kind="safetensors")
    logits = torch.tensor(pd.read_parquet("out.parquet")["prediction"].tolist())
    assert logits.shape == (8, 2) and torch.equal(logits[:2], logits[2:4]) and Path("net.safetensors").exists()
