"""Model files from elsewhere: each that does not fit, or could use any memory or time, is one ModelError."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from redoseg.cli.main import run_command
from redoseg.config.schema import Config
from redoseg.errors import ModelError
from redoseg.inference.model_check import OPERATORS, UnsafeModel, check_operators
from redoseg.inference.model_cost import check_cost
from redoseg.inference.model_file import find_model, weights
from redoseg.inference.redraw import RedrawModel
from redoseg.inference.segmenter import Segmenter
from redoseg.run_folder import MODEL_FILE, REDRAW_FILE
from redoseg.train.refined import network_digest
from tests.bright import METADATA, bright_square, write_model

Change = Callable[[onnx.ModelProto], None]


def segment(path: Path) -> None:
    bright_square().save(path.parent / "x.png")
    run_command(["segment", str(path), str(path.parent / "x.png"), "-o", str(path.parent / "out")])


ENTRANCES: dict[str, Callable[[Path], object]] = {"library": Segmenter, "segment": segment}

NOT_OURS = {
    "size 0": {"size": "0"},
    "size -1": {"size": "-1"},
    "size 1e9": {"size": "1000000000"},
    "size in words": {"size": "large"},
    "another size": {"size": "8"},
    "3 regions of 2": {"regions": "3"},
    "no regions": {"regions": "0"},
    "1e9 regions": {"regions": "1000000000"},
    "object region 2 of 2": {"object_region": "2"},
    "object region -1": {"object_region": "-1"},
    "latent -1": {"latent": "-1"},
    "latent 1e12": {"latent": "1000000000000"},
    "range": {"picture_range": "\x1b[2J"},
    "thousands of digits": {"size": "9" * 5000},
    "format": {"redoseg_format": "\x1b]0;title\x07"},
}


def node(name: str, *inputs: str, **attributes: object) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.insert(0, helper.make_node(name, list(inputs or ("picture",)), ["more"], **attributes))

    return change


def body() -> onnx.GraphProto:
    return helper.make_graph([], "body", [], [])


def constant(array: np.ndarray) -> Change:
    return lambda model: model.graph.initializer.append(numpy_helper.from_array(array, "added"))


def claims_more(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer.add(name="added", data_type=TensorProto.FLOAT, raw_data=b"1234")
    tensor.dims.extend([2**20, 2**20])


def elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer.add(name="added", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def many_joins(model: onnx.ModelProto) -> None:
    for i in range(100):
        previous = f"join{i - 1}" if i else "picture"
        model.graph.node.add(op_type="Concat", input=[previous, previous], output=[f"join{i}"])


def enlarged(model: onnx.ModelProto) -> None:
    constant(np.array([1, 1, 1e5, 1e5], np.float32))(model)
    node("Resize", "picture", "", "added")(model)


def chain(*steps: tuple[str, list[str], dict[str, object]], **constants: object) -> Change:
    """Operators one after another: each takes the value before it ("" among its inputs), first the picture."""

    def change(model: onnx.ModelProto) -> None:
        for name, values in constants.items():
            array = np.array(values)
            array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        value = "picture"
        for number, (operator, inputs, attributes) in enumerate(steps):
            names = [value if name == "" else name for name in inputs]
            value = f"chain{number}"
            model.graph.node.append(helper.make_node(operator, names, [value], **attributes))

    return change


def int8(model: onnx.ModelProto) -> None:
    """What a kernel covers, copied for each pixel of a picture."""
    for name, array in {"scale": np.float32(1), "zero": np.int8(0), "w": np.ones((1, 3, 2048, 1), np.float32)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(array), name))
    chain(
        ("Pad", ["", "pads"], {}),
        ("QuantizeLinear", ["", "scale", "zero"], {}),
        ("DequantizeLinear", ["", "scale", "zero"], {}),
        ("Conv", ["", "w"], {}),
        pads=[0, 0, 0, 0, 0, 0, 4080, 4080],
    )(model)


COSTLY: dict[str, Change] = {
    "enlarged again and again": chain(*[("Resize", ["", "", "by"], {})] * 3, by=[1.0, 1.0, 60.0, 60.0]),
    "enlarged in channels": chain(*[("Resize", ["", "", "by"], {})] * 4, by=[1.0, 40.0, 1.0, 1.0]),
    "padded again and again": chain(*[("Pad", ["", "pads"], {})] * 9, pads=[0, 0, 0, 0, 0, 0, 4000, 4000]),
    "a sum of row and column": chain(
        ("Reshape", ["", "column"], {}),
        ("Transpose", [""], {}),
        ("Add", ["", "chain0"], {}),
        ("Reshape", ["", "column"], {}),
        ("Transpose", [""], {}),
        ("Add", ["", "chain3"], {}),
        column=[-1, 1],
    ),
    "outer products": chain(
        ("Reshape", ["", "column"], {}),
        ("Gemm", ["", ""], {"transB": 1}),
        ("Reshape", ["", "column"], {}),
        ("Gemm", ["", ""], {"transB": 1}),
        column=[-1, 1],
    ),
    "outer products of constants": chain(("MatMul", ["up", "along"], {}), up=[[1.0]] * 40_000, along=[[1.0] * 40_000]),
    "the same by two ways": chain(
        *[("Resize", ["", "", "by"], {}), ("Identity", [""], {})] * 3, by=[1.0, 30.0, 30.0, 30.0]
    ),
    "many large values": chain(("Resize", ["", "", "by"], {}), *[("Relu", [""], {})] * 200, by=[1.0, 1.0, 64.0, 64.0]),
    "by the number of pictures": chain(
        *[("Reshape", ["", "column"], {}), ("Gemm", ["", ""], {"transB": 1})] * 2, column=[-1, 8]
    ),
    "long kernels": chain(
        ("Pad", ["", "pads"], {}),
        ("AveragePool", [""], {"kernel_shape": [2000, 2000]}),
        pads=[0, 0, 0, 0, 0, 0, 3000, 3000],
    ),
    "long kernels of maxima": chain(
        ("Resize", ["", "", "by"], {}),
        ("MaxPool", [""], {"kernel_shape": [1001, 1001], "pads": [500] * 4}),
        by=[1.0, 1.0, 64.0, 64.0],
    ),
    "long sums": chain(
        ("Resize", ["", "", "by"], {}),
        ("MatMul", ["", ""], {}),
        *[("MatMul", ["", "chain0"], {})] * 400,
        by=[1.0, 1.0, 64.0, 64.0],
    ),
    "copies of int8": int8,
}


UNSAFE: dict[str, Change] = {
    "Loop": node("Loop", body=body()),
    "If": node("If", then_branch=body(), else_branch=body()),
    "Scan": node("Scan", body=body(), num_scan_inputs=1),
    "ConstantOfShape": node("ConstantOfShape"),
    "Expand": node("Expand", "picture", "channels"),
    "Tile": node("Tile", "picture", "channels"),
    "Range": node("Range"),
    "RandomNormal": node("RandomNormal", shape=[2**20, 2**10]),
    "a graph in a known operator": node("Relu", body=body()),
    "another domain": lambda model: model.graph.node.insert(
        0, helper.make_node("Relu", ["picture"], ["more"], domain="com.microsoft")
    ),
    "a tensor in an operator": node("Identity", value=numpy_helper.from_array(np.zeros(3))),
    "wide padding": node("MaxPool", kernel_shape=[2, 2], pads=[10**6] * 4),
    "a huge shape": constant(np.array([1, 1, 2**40], np.int64)),
    "negative padding": constant(np.array([-(2**40)], np.int64)),
    "a constant that claims more": claims_more,
    "data in another file": elsewhere,
    "many joins": many_joins,
    "a huge enlargement": enlarged,
    "functions": lambda model: model.functions.append(helper.make_function("x", "f", [], [], [], [])),
    "sparse constants": lambda model: model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0]),
            helper.make_tensor("indices", TensorProto.INT64, [1], [0]),
            [2**30],
        )
    ),
}


def many_constants(model: onnx.ModelProto) -> None:
    for number in range(10_001):
        model.graph.initializer.add(name=str(number), data_type=TensorProto.FLOAT, raw_data=b"1234")


UNSAFE["many constants"] = many_constants
COSTLY["a sum of constants"] = chain(("Add", ["up", "along"], {}), up=[[1.0]] * 30_000, along=[[1.0] * 30_000])


def set_half(value: float) -> Change:
    """The masks are this much wrong."""
    return lambda model: model.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.array([value], np.float32), "half")
    )


def always_the_same(model: onnx.ModelProto) -> None:
    del model.graph.node[-1]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 2, 16, 16), np.float32), "masks"))


NO_MASKS: dict[str, Change] = {
    "not a number": set_half(np.nan),
    "infinite": set_half(np.inf),
    "beyond 1": set_half(1e30),
    "below 0": set_half(-3),
    "always the same": always_the_same,
}


def refused(open_model: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_model(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("case", NOT_OURS)
def test_metadata_that_do_not_fit(tmp_path: Path, case: str, entrance: str) -> None:
    refused(ENTRANCES[entrance], write_model(tmp_path / "m.onnx", METADATA | NOT_OURS[case]))


@pytest.mark.every(5)
@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("case", UNSAFE)
def test_what_redoseg_does_not_write(tmp_path: Path, case: str, entrance: str) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    UNSAFE[case](model)
    path.write_bytes(model.SerializeToString())
    assert "--trust" in refused(ENTRANCES[entrance], path)


@pytest.mark.parametrize("case", COSTLY)
def test_memory_and_time_are_known_before_it_runs(tmp_path: Path, case: str) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    COSTLY[case](model)
    path.write_bytes(model.SerializeToString())
    before = time.process_time()
    said = refused(Segmenter, path)
    assert time.process_time() - before < 2
    assert "--trust" in said
    assert any(word in said for word in ("GB of values", "multiplies", "not known")), said


@pytest.mark.every(3)
@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("case", NO_MASKS)
def test_values_that_are_not_masks(tmp_path: Path, case: str, trust: bool) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    NO_MASKS[case](model)
    path.write_bytes(model.SerializeToString())
    assert "export it again" in refused(lambda path: Segmenter(path, trust=trust), path)


def sparse(path: Path) -> None:
    """A file of 3 GB that takes no room on the disk."""
    path.unlink()
    path.touch()
    os.truncate(path, 3 * 2**30)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FILES: dict[str, Callable[[Path], object]] = {
    "metadata of another encoding": lambda path: path.write_bytes(
        path.read_bytes().replace(b"bright", b"br\xff\xfeht")
    ),
    "nothing": lambda path: path.write_bytes(b""),
    "nothing but zeros": lambda path: path.write_bytes(bytes(1000)),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "with more behind it": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "a pipe": as_pipe,
    "3 GB": sparse,
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_models(tmp_path: Path, case: str, entrance: str) -> None:
    path = write_model(tmp_path / "m.onnx")
    FILES[case](path)
    refused(ENTRANCES[entrance], path)


@pytest.mark.parametrize("content", [bytes(1000), b"text", b"\x3a\xff\xff\xff\xff\x0f"], ids=len)
def test_the_digest_of_what_is_not_a_model_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert "is not an ONNX model" in refused(lambda path: network_digest(str(path)), tmp_path / "m.onnx")


@pytest.mark.parametrize("net", ["paper", "unet"])
def test_large_networks_that_redoseg_trains_are_accepted(net: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from redoseg.nets.mask_extractor import MaskExtractor
    from redoseg.nets.unet import UNet
    from redoseg.onnx_export.mask_extractor import export_extractor

    config = Config()
    network = UNet(config.refine.student_width, 3) if net == "unet" else MaskExtractor(config.nets)
    export_extractor(network, config, tmp_path / "m.onnx", name="large", object_region=0, size=512)
    check_cost((tmp_path / "m.onnx").read_bytes())


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT64, TensorProto.FLOAT16])
def test_outputs_of_another_type(tmp_path: Path, kind: int) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Cast", ["before"], ["masks"], to=kind))
    model.graph.output[0].type.tensor_type.elem_type = kind
    path.write_bytes(model.SerializeToString())
    assert "not one of redoseg" in refused(Segmenter, path)


def test_a_shape_that_is_not_declared_is_noticed(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[-1].input.append("halved")  # three regions
    for value in (*model.graph.input, *model.graph.output):
        for axis, length in enumerate(value.type.tensor_type.shape.dim):
            length.dim_param = f"{value.name}{axis}"
    path.write_bytes(model.SerializeToString())
    assert "does not say the sizes of its inputs" in refused(Segmenter, path)
    said = refused(lambda path: Segmenter(path, trust=True), path)
    assert "metadata say" in said or "not one of redoseg" in said


def test_a_trusted_file_is_opened(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("Abs", ["picture"], ["more"]))
    path.write_bytes(model.SerializeToString())
    assert "'Abs'" in refused(Segmenter, path)
    assert Segmenter(path, trust=True)(bright_square()).any()
    bright_square().save(tmp_path / "x.png")
    assert run_command(["segment", str(path), str(tmp_path / "x.png"), "-o", str(tmp_path / "o"), "--trust"]) == 0


def test_names_are_printed_without_control_characters(tmp_path: Path) -> None:
    name = Segmenter(write_model(tmp_path / "m.onnx", METADATA | {"name": "a\x1b[2J\nb" + "x" * 5000})).name
    assert name.isprintable()
    assert len(name) <= 100


def test_all_packaged_weights_are_accepted() -> None:
    for file in (MODEL_FILE, REDRAW_FILE):
        for name in weights(file):
            check_operators(find_model(name, file).content)
    Segmenter("flowers-int8")
    RedrawModel("flowers")


def test_any_bytes_end_in_an_answer(tmp_path: Path) -> None:
    content = write_model(tmp_path / "m.onnx").read_bytes()
    chance = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(content[: chance.integers(1, len(content))])
        for at in chance.integers(0, len(damaged), 3):
            damaged[at] = chance.integers(0, 256)
        with contextlib.suppress(UnsafeModel, ValueError):
            check_operators(bytes(damaged))
            check_cost(bytes(damaged))


def test_no_operator_contains_a_graph() -> None:
    for name in OPERATORS:
        kinds = {attribute.type for attribute in onnx.defs.get_schema(name).attributes.values()}
        assert not kinds & {onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS}
