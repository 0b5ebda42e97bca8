"""The text example with the real package `transformers`, on small models that are made here: nothing is downloaded."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.local.commands import ROOT, Command, Place
from tests.unit.example_fits import FOLDER, quiet_trainer
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.text_classifier import TextClassifier, TextDataModule

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


def test_two_workers_train_resume_predict_and_export(tmp_path: Path) -> None:
    assert FOUND and FOUND.origin
    model, texts = make_model(tmp_path / "bert"), make_texts(tmp_path)
    run_file = [str(FOLDER / "text_classifier/train.yaml"), *from_folder(model, texts), "scaling.num_workers=2"]
    pd.DataFrame({"tokens": [[2, 5, 6, 8, 3], [2, 5, 8, 6, 3]] * 4}).to_parquet(tmp_path / "rows.parquet")

    with Place({"PYTHONPATH": f"{ROOT}:{Path(FOUND.origin).parents[1]}"}) as place:

        def trainer(*words: str) -> Command:
            done = place.run(*words, cwd=tmp_path)
            assert done.code == 0, done.err
            return done

        trainer("validate", "--run", *run_file)
        trainer("train", *run_file, "trainer.max_epochs=1", "--name", "texts")
        trainer("train", *run_file, "trainer.max_epochs=4", "--resume", "texts")
        shutil.rmtree(model)
        trainer("predict", "texts", "--data", "rows.parquet", "--columns", "tokens", "-o", "out.parquet")
        trainer("export", "texts", "-o", "net.pt2")
        shown = json.loads(trainer("results", "texts", "--json").out.splitlines()[-1])
    assert shown
    predicted = pd.read_parquet(tmp_path / "out.parquet")
    logits = torch.tensor(predicted["prediction"].tolist())
    program = torch.export.load(tmp_path / "net.pt2").module()
    assert logits.shape == (8, 2)
    assert torch.allclose(program(torch.tensor([[2, 5, 6, 8, 3], [2, 5, 8, 6, 3]])), logits[:2].float(), atol=1e-5)
