import json
import re
import shutil

import huggingface_hub
import pytest

from keras_sae.publishing import card
from keras_sae.runs.cards import escaped
from keras_sae.runs.records import read_config, read_preset


def test_the_front_matter_is_what_the_hub_reads(preset):
    found = huggingface_hub.ModelCard.load(preset / "README.md").data
    assert (found.library_name, found.license, found.pipeline_tag) == ("keras", "apache-2.0", "feature-extraction")
    assert found.tags == ["keras", "keras_sae", "sparse-autoencoder"]
    [result] = found.eval_results
    assert (found.model_name, result.dataset_name) == ("numbers", "numbers")
    assert (result.metric_type, result.metric_value) == ("explained_variance", 0.75)


def test_a_card_says_what_people_ask(preset):
    text = (preset / "README.md").read_text()
    lines = text.splitlines()
    assert "# Numbers \\| of a test" in lines
    first = next(line for line in lines if line.startswith("model = "))
    assert first == 'model = keras_sae.from_preset("numbers")  # rows of 6 numbers -> 6 numbers'
    assert "codes = model.transform(rows)  # codes, (rows, 8)" in lines
    for row in (
        "| intended use | tests |",
        "| limits | tests alone |",
        "| data | numbers; licence: none needed; x.npy in data; 20 rows |",
        "| measured: explained_variance | 75.00 % |",
        "| licence of the weights | apache-2.0 |",
        "| licence of the rows here | that of the data, in `examples.npz`, `calibration.npz` and pictures |",
        "| trained in | 3 s, paper |",
        "| saved_model/1 | 170 | 2.0e-07 | 5.0e-08 |  |",
        "| encoder_int8.tflite | | Expected encoder_int8.tflite within 0.05 of Keras. Received: 0.07. | | |",
        "| dead_units | 1 |",
    ):
        assert row in lines
    assert "    python -m train.nothing --out runs/nothing --data x.npy" in lines
    [sample] = re.findall(r"\| on the examples here \| (.*) \|", text)
    active = read_preset(preset)["sample"]["active_units"]
    assert f"{active:.1f} units of an example active" in sample
    assert "(20 rows, `examples.npz`)" in sample
    assert "RUN" not in text


def test_what_a_preset_says_is_shown_as_it_is(preset, tmp_path):
    copy = shutil.copytree(preset, tmp_path / "numbers")
    evil = "a | b\n# c\n```"
    texts = dict.fromkeys(("title", "use", "limits", "data", "data_license", "license", "hardware", "stored"), evil)
    (copy / "preset.json").write_text(json.dumps(read_preset(preset) | texts | {"dataset": evil}))
    (copy / "run.json").write_text(json.dumps(read_config(preset) | {"command": evil, "data": evil}))
    lines = card.render(copy).splitlines()
    assert [line for line in lines if line.startswith("# ")] == [f"# {escaped(evil)}"]
    assert "    # c" in lines
    assert lines.count("```") == 1  # the end of the snippet
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[lines.index("| | |") :][:11]} == {3}
    assert huggingface_hub.ModelCard(card.render(copy)).data.license == evil


def test_a_number_with_its_interval(preset):
    metrics = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94}
    found = card._measured({"headline": "accuracy", "seeds": {}}, metrics)
    assert found == "90.00 % (95 % interval 85.00 % to 94.00 %)"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("accuracy_finetuned", 0.97881, "97.88 %"), ("distinct_codes", 8, "8"), ("mse", 0.00054974, "0.00054974")],
)
def test_headlines(name, value, text):
    said = {"headline": name, "seeds": {}}
    assert card.headline(said, {name: value}) == f"{name.replace('_', ' ')} {text}"
    said["seeds"] = {name: [0.5 * value, 1.5 * value]}
    assert card.headline(said, {name: 7.0}) == f"{name.replace('_', ' ')} {text}, mean of 2 seeds"


def test_the_index_has_a_row_for_each(preset):
    [row] = card.rows(preset.parent, "models/")
    link = "[numbers](models/numbers/README.md)"
    assert row == f"| {link} | tests | numbers | explained variance 75.00 % | {card.size(preset)} |"
    assert card.index(preset.parent).endswith("\n".join([*card.HEADER, row.replace("models/", "")]) + "\n")
