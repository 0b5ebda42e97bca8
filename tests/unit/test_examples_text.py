"""The example of labelled texts: what it reads, what it refuses, that it learns, and how it is sharded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule

from tests.unit.example_fits import FOLDER, quiet_trainer
from trainer_app import rehearsal
from trainer_app.errors import InputError
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.text_classifier import TextClassifier, TextDataModule
from trainer_app.examples.text_classifier.tables import read_table
from trainer_app.examples.text_classifier.vocabulary import PAD, START, encode, pad, trim

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("small_machine")]
ROWS = [("a cat sleeps", "1"), ("cat a sleeps", "0"), ("a dög runs", "1"), ("runs dog a", "0"), ("it, \t rains", "1")]


def write_table(path: Path, rows: list[tuple[str, str]] = ROWS) -> Path:
    """A table in the format that its name says, made without our reader."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(text.replace("\t", " "), label) for text, label in rows]
    if path.suffix == ".jsonl":
        lines = [json.dumps({"label": int(label), "sentence": text}) for text, label in rows]
    elif path.suffix == ".csv":
        lines = ["label,sentence", *(f'{label},"{text}"' for text, label in rows)]
    elif path.stem.startswith("cola"):
        lines = [f"gj04\t{label}\t\t{text}" for text, label in rows]
    else:
        lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def set_up(**init_args: Any) -> TextDataModule:
    data = TextDataModule(**TextDataModule.resolve_init_args(init_args))
    data.setup("fit")
    return data


def test_texts_are_bytes() -> None:
    tokens = pad(encode(["ab", "", "äbc"], max_length=4))
    assert tokens.tolist() == [[START, 98, 99, PAD], [START, PAD, PAD, PAD], [START, 196, 165, 99]]
    (cut,) = trim((tokens[:2],))
    assert cut.dtype == torch.int64 and cut.tolist() == [[START, 98, 99], [START, PAD, PAD]]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "cola.tsv"])
def test_each_format_is_read(tmp_path: Path, name: str) -> None:
    data = set_up(source=str(write_table(tmp_path / name)))
    assert data.classes == ["0", "1"] and [len(data.train), len(data.val)] == [4, 1]
    tokens, labels = data.train.tensors
    wanted = [(text.replace("\t", " "), int(label)) for text, label in ROWS]
    assert [bytes(int(t) - 1 for t in row[1:] if t != PAD).decode() for row in tokens] == [text for text, _ in wanted]
    assert labels.tolist() == [label for _, label in wanted]


def test_blank_lines_values_that_are_empty_and_half_an_emoji_are_read(tmp_path: Path) -> None:
    names = {"text": "sentence", "label": "label"}
    (tmp_path / "a.csv").write_text("\nlabel,sentence\n--1,a,\n\n1,b\n")
    assert [text.text for text in read_table(tmp_path / "a.csv", **names)] == ["a", "b"]
    assert set_up(source=str(tmp_path / "a.csv")).classes == ["--1", "1"]
    (tmp_path / "a.jsonl").write_text('{"sentence": "a\\ud83d", "label": 0}\n')
    assert [text.text for text in read_table(tmp_path / "a.jsonl", **names)] == ["a?"]


def test_a_folder_may_have_its_own_validation_texts(tmp_path: Path) -> None:
    write_table(tmp_path / "glue/train.tsv")
    write_table(tmp_path / "glue/dev.tsv", ROWS[:2])
    write_table(tmp_path / "glue/test.tsv", ROWS[:1])
    data = set_up(source=str(tmp_path / "glue"))
    assert [len(data.train), len(data.val)] == [5, 2]
    assert {len(y) for _, y in data.val_dataloader()} == {2}


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.txt", "x", r"a.txt: a table's name ends in .tsv, .csv, .jsonl"),
        ("a.tsv", "sentence\tlabel\n", "a.tsv: 0 texts are too few"),
        ("a.tsv", "sentence\tlabel\na\t1\n", "a.tsv: 1 texts are too few"),
        ("a.tsv", "sentence\tlabel\na\t1\nb\t1\n", "a.tsv:2: all texts have the label '1'; at least two are needed"),
        ("a.tsv", "text\tlabel\na\t1\n", "a.tsv:2: there is no sentence; columns: text, label"),
        ("a.csv", "sentence,label\na,1\nb\n", "a.csv:3: there is no label"),
        ("a.jsonl", '{"sentence": "a", "label": 1}\n{"sent', "a.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: a line must be a JSON object"),
        ("a.jsonl", '{"sentence": ["a"], "label": 1}\n', "a.jsonl:1: sentence is a list; a string or a number"),
        ("a.csv", b"sentence,label\n\xff,1\n", "a.csv: cannot be read after line"),
        ("a.csv", 'label,sentence\n0,a\n1,"b\n0,c\n', "a.csv: cannot be read after line 2: .*; is a quote not closed"),
        ("a.csv", "label,sentence\n0,a, or b\n1,c\n", "a.csv:2: 3 values, the columns are label, sentence; put a text"),
        ("a.tsv", "label\tsentence\n0\ta\tb\n1\tc\n", "a.tsv:2: 3 values, .*; a text can't hold a tab"),
    ],
)
def test_what_is_no_table_is_refused_in_a_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as e:
        set_up(source=str(tmp_path / name))
    assert "\n" not in str(e.value)


def test_a_folder_without_texts_to_train_on_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    write_table(folder / "a.tsv")
    write_table(folder / "b.tsv")
    write_table(folder / ".ipynb_checkpoints/train.tsv")
    with pytest.raises(DataError, match=r"holds a.tsv, b.tsv; train.tsv, train.csv or train.jsonl is needed"):
        set_up(source=str(folder))
    (folder / "b.tsv").unlink()
    assert len(set_up(source=str(folder)).train) == 4
    write_table(folder / "train.tsv")
    write_table(folder / "dev.tsv", [("what", "7"), ("why", "0")])
    with pytest.raises(DataError, match=r"dev.tsv:2: no text to train on has the label '7'"):
        set_up(source=str(folder))


def test_the_encoder_learns_which_sentences_are_right(tmp_path: Path) -> None:
    pl.seed_everything(1)
    data = set_up(batch_size=32)
    model = TextClassifier(d_model=32, num_layers=2, dropout=0.0, lr=5e-3)
    run = quiet_trainer(max_epochs=3)
    run.fit(model, datamodule=data)
    assert set(run.callback_metrics) == {"train/loss", "val/loss", "val/acc", "val/mcc"}
    assert float(run.callback_metrics["val/acc"]) >= 0.8 and float(run.callback_metrics["val/mcc"]) >= 0.6
    run.save_checkpoint(tmp_path / "model.ckpt")
    restored = TextClassifier.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    tokens = data.val.__getitems__(range(8))[0]
    padded = nn.functional.pad(tokens, (0, 5), value=PAD)
    assert torch.allclose(restored(tokens), model.eval()(padded), atol=1e-5)  # padding is not looked at


@pytest.mark.parametrize(
    "model, message",
    [
        ({"num_classes": 3}, r"model.init_args.num_classes is 3, the data has 2 classes \(0, 1\); set it to 2"),
        ({"max_length": 64}, "data.init_args.max_length is 128 and model.init_args.max_length 64; make them equal"),
    ],
)
def test_a_model_that_does_not_take_the_data_is_refused(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    data = set_up(source=str(write_table(tmp_path / "a.tsv")))
    with pytest.raises(DataError, match=message):
        quiet_trainer(fast_dev_run=True).fit(TextClassifier(**{"d_model": 8, **model}), datamodule=data)


def test_ten_million_parameters_are_one_setting() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in TextClassifier(d_model=512).parameters()) > 10_000_000


def test_each_layer_is_sharded_where_there_is_a_mesh() -> None:
    """In a group of one process, where what is computed must be what an unsharded module computes."""
    pl.seed_everything(1)
    plain, sharded = TextClassifier(d_model=16, dropout=0.0), TextClassifier(d_model=16, dropout=0.0)
    sharded.load_state_dict(plain.state_dict())
    plain.configure_model()
    assert not any(isinstance(module, FSDPModule) for module in plain.modules())
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        sharded._device_mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
        sharded.configure_model()
        sharded.configure_model()
        shards = [type(module).__name__ for module in sharded.modules() if isinstance(module, FSDPModule)]
        assert sorted(shards) == ["FSDPByteTransformer", *["FSDPTransformerEncoderLayer"] * 4]
        tokens = pad(encode(["one text", "another one"], max_length=16)).long()
        for model in (plain, sharded):
            model(tokens).logsumexp(1).sum().backward()
            torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert torch.allclose(plain(tokens), sharded(tokens), atol=1e-6)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["train.yaml", "tune.yaml"])
def test_one_batch_of_each_run_file(name: str) -> None:
    done = rehearsal.rehearse([str(FOLDER / "text_classifier" / name)], ["scaling.use_gpu=false"])
    assert "a checkpoint saved, loaded and restored" in done.done
    assert {"train/loss", "val/acc", "val/mcc"} <= set(done.logged)


class StubConfig(SimpleNamespace):
    """As `transformers.AutoConfig`, as far as it is used."""

    @classmethod
    def for_model(cls, model_type: str, **settings: Any) -> StubConfig:
        return cls(model_type=model_type, **settings)


class StubModel(nn.Module):
    """As `transformers.AutoModel`: an embedding, and a pooler as BERT's."""

    def __init__(self, config: StubConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.pooler: nn.Module | None = nn.Linear(2, 2)

    from_config = classmethod(lambda cls, config: cls(config))

    @classmethod
    def from_pretrained(cls, folder: str, *, local_files_only: bool) -> StubModel:
        model = cls(StubConfig(**json.loads(Path(folder, "config.json").read_text())))
        nn.init.constant_(model.embedding.weight, 0.25)
        return model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        assert int(input_ids.min()) >= 0 and attention_mask.shape == input_ids.shape
        return SimpleNamespace(last_hidden_state=self.embedding(input_ids))


class StubTokenizer:
    @classmethod
    def from_pretrained(cls, folder: str, *, local_files_only: bool) -> Any:
        return lambda texts, truncation, max_length: {"input_ids": [[5] * min(len(t), max_length) for t in texts]}


@pytest.fixture
def bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in Hugging Face's format, and a stub of its library."""
    stub = SimpleNamespace(AutoConfig=StubConfig, AutoModel=StubModel, AutoTokenizer=StubTokenizer)
    monkeypatch.setitem(sys.modules, "transformers", stub)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text('{"model_type": "stub", "vocab_size": 7, "hidden_size": 4, "x": null}')
    return tmp_path / "bert"


def test_weights_of_hugging_face_are_loaded_once(bert: Path, tmp_path: Path) -> None:
    data = set_up(source=str(write_table(tmp_path / "a.tsv")), tokenizer=str(bert))
    args = TextClassifier.resolve_init_args({"weights": str(bert), "lr": 1e-9})
    assert json.loads(args["encoder_config"])["hidden_size"] == 4 and args["weights_checksum"].startswith("sha256:")
    model, run = TextClassifier(**args), quiet_trainer(max_epochs=1)
    embedding = model.network.encoder.embedding.weight
    assert not (embedding == 0.25).any() and model.network.encoder.pooler is None
    run.fit(model, datamodule=data)
    assert torch.allclose(embedding, torch.tensor(0.25), atol=1e-6)
    run.save_checkpoint(tmp_path / "model.ckpt")
    (bert / "config.json").unlink()  # who has a checkpoint needs the folder no more
    restored = TextClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    assert torch.equal(restored.network.encoder.embedding.weight, embedding)
    for text in (None, "{}", "[]"):
        if text:
            (bert / "config.json").write_text(text)
        with pytest.raises(
            DataError, match=r"bert: holds no config.json that can be read; a folder as save_pretrained"
        ):
            TextClassifier.resolve_init_args({"weights": str(bert)})


def test_texts_longer_than_a_model_of_hugging_face_takes_are_refused(bert: Path, tmp_path: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    data = set_up(source=str(write_table(tmp_path / "a.tsv")), tokenizer=str(bert))
    model = TextClassifier(**TextClassifier.resolve_init_args({"weights": str(bert)}))
    with pytest.raises(DataError, match="max_length is 128, the encoder takes 64 tokens; set it to 64"):
        quiet_trainer(fast_dev_run=True).fit(model, datamodule=data)


def test_a_tokenizer_of_another_model_is_refused(bert: Path, tmp_path: Path) -> None:
    data = set_up(source=str(write_table(tmp_path / "a.tsv")), tokenizer=str(bert))
    with pytest.raises(DataError, match=r"weights is 'none' and data.init_args.tokenizer '.*/bert'; name the same"):
        quiet_trainer(fast_dev_run=True).fit(TextClassifier(d_model=8), datamodule=data)


def test_one_batch_with_weights_of_hugging_face(bert: Path) -> None:
    changes = [f"model.init_args.weights={bert}", f"data.init_args.tokenizer={bert}", "scaling.use_gpu=false"]
    done = rehearsal.rehearse([str(FOLDER / "text_classifier/train.yaml")], changes)
    assert "a checkpoint saved, loaded and restored" in done.done


@pytest.mark.parametrize("key", ["model.init_args.weights", "data.init_args.tokenizer"])
def test_without_transformers_a_line_says_what_to_install(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        InputError, match=r"needs transformers, not installed here: in trainer's.* --extra huggingface"
    ) as e:
        rehearsal.rehearse([str(FOLDER / "text_classifier/train.yaml")], [f"{key}=bert", "scaling.use_gpu=false"])
    assert "\n" not in str(e.value)
