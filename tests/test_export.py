"""A model as a graph for other runtimes answers as the pipeline does, for any number of images."""

import json

import numpy as np
import pytest
import torch
from test_predict import finished, one_kind, pictures, read  # noqa: F401  (a fixture)

from decodiff.data.views import cropped, to_tensor
from decodiff.errors import InputError
from decodiff.pipeline import DeCoDiffPipeline
from decodiff.stages import export as exporting
from decodiff.stages.export import export
from decodiff.stages.predict import predict


def opened(kind, path):
    """A function of images and categories that gives what a graph gives, as arrays."""
    if kind == "torchscript":
        graph = torch.jit.load(str(path))
        return lambda images, category: [values.numpy() for values in graph(images, category)]
    if kind == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
        return lambda images, category: session.run(None, {"images": images.numpy(), "category": category.numpy()})
    openvino = pytest.importorskip("openvino")
    # by itself it computes in bfloat16 where the processor can
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images, category: list(model([images.numpy(), category.numpy()]).values())


@one_kind
@pytest.mark.parametrize("kind", ["torchscript", "onnx", "openvino"])
def test_a_graph_answers_as_the_pipeline_does(finished, tmp_path, kind):  # noqa: F811
    for package in exporting.NEEDED[kind]:
        pytest.importorskip(package, reason="of the extra `export`")
    folder, rows = finished
    path = export(str(folder / "model"), kind, tmp_path / "graph")
    said = json.loads((path.parent / "model.json").read_text())
    pipeline = DeCoDiffPipeline.from_pretrained(folder / "model")
    answers = opened(kind, path)
    for count in (1, 5):
        names = [row.category for row in rows[:count]]
        expected = pipeline(pictures(folder, rows)[:count], names)
        resized = np.stack([pipeline.image_processor.resized(image) for image in pictures(folder, rows)[:count]])
        images = to_tensor(cropped(resized, said["image"]["crop"]))
        category = torch.tensor([said["categories"].index(name) for name in names])
        maps, scores, corrections = answers(images, category)
        np.testing.assert_allclose(maps, expected.anomaly_maps, atol=1e-4)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
        seen = np.clip((corrections + 1) * 127.5, 0, 255).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(seen, expected.corrections, atol=0.6)


@one_kind
def test_predict_traced_says_what_it_says_without(finished, tmp_path):  # noqa: F811
    folder = finished[0]
    for runtime in ("torch", "torchscript"):
        assert predict(str(folder / "model"), [str(folder / "images")], tmp_path / runtime, runtime=runtime) == 0
    by_runtime = [read(tmp_path / runtime / "predictions.csv") for runtime in ("torch", "torchscript")]
    for expected, row in zip(*by_runtime, strict=True):
        assert [row[key] for key in ("image", "category", "verdict")] == [
            expected[key] for key in ("image", "category", "verdict")
        ]
        assert abs(float(row["score"]) - float(expected["score"])) < 1e-4
        maps = [np.load(tmp_path / runtime / "maps" / f"{row['image']}.npy") for runtime in ("torch", "torchscript")]
        np.testing.assert_allclose(maps[1], maps[0], atol=1e-4)
    with pytest.raises(InputError, match="of another model or with other options"):
        predict(str(folder / "model"), [str(folder / "images")], tmp_path / "torch", runtime="torchscript")


@one_kind
def test_an_export_that_cannot_be_is_said_in_one_line(finished, tmp_path, monkeypatch):  # noqa: F811
    with pytest.raises(InputError, match="there already"):
        export(str(finished[0] / "model"), "torchscript", tmp_path)
    monkeypatch.setattr(exporting, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"--format onnx: needs onnx, onnxscript; install it with .*\[export\]"):
        export(str(finished[0] / "model"), "onnx", tmp_path / "graph")
    assert not (tmp_path / "graph").exists()
