"""Makes the models of Data/odd from the tiny one: other endings, other inputs, and some that can't be served. Needs onnx. Run it in this folder, after make_tiny.py."""
import os

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


def model(name, change):
    graph = onnx.load("models/tiny/model.onnx")
    change(graph.graph)
    onnx.checker.check_model(graph)
    os.makedirs(f"odd/{name}", exist_ok=True)
    onnx.save(graph, f"odd/{name}/model.onnx")


def ends_in(operator, **attributes):
    def change(graph):
        graph.node.append(helper.make_node(operator, ["scores"], ["ended"], **attributes))
        graph.output[0].name = "ended"
    return change


def begins_with(type, shape, nodes, constants=()):
    """The nodes turn an input of this type and shape, 'given', into 'ready', which the network reads."""
    def change(graph):
        for node in graph.node:
            node.input[:] = ["ready" if name == "image" else name for name in node.input]
        for at, node in enumerate(nodes):
            graph.node.insert(at, node)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants)
        del graph.input[:]
        graph.input.append(helper.make_tensor_value_info("given", type, shape))
    return change


def wrong_reshape(graph):
    # Seven values can't be made of five scores: found by the first pass only.
    graph.initializer.append(numpy_helper.from_array(numpy.array([-1, 7], numpy.int64), "seven"))
    graph.node.append(helper.make_node("Reshape", ["scores", "seven"], ["ended"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("ended", TensorProto.FLOAT, ["batch", 7]))


def frames_lost(graph):
    graph.node.append(helper.make_node("ReduceMean", ["scores"], ["ended"], axes=[0], keepdims=0))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("ended", TensorProto.FLOAT, [5]))


cast = helper.make_node("Cast", ["given"], ["cast"], to=TensorProto.FLOAT)
unit = helper.make_node("Mul", ["cast", "scale"], ["ready"])
scale = [("scale", numpy.array(1 / 255, numpy.float32))]
image = ["batch", 3, 16, 16]
model("softmax", ends_in("Softmax", axis=1))
model("log-softmax", ends_in("LogSoftmax", axis=1))
model("sigmoid", ends_in("Sigmoid"))
model("bytes", begins_with(TensorProto.UINT8, image, [cast, unit], scale))
model("ints", begins_with(TensorProto.INT32, image, [cast, unit], scale))
model("double", begins_with(TensorProto.DOUBLE, image, [helper.make_node("Cast", ["given"], ["ready"], to=TensorProto.FLOAT)]))
model("nhwc", begins_with(TensorProto.UINT8, ["batch", 16, 16, 3], [helper.make_node("Transpose", ["given"], ["planes"], perm=[0, 3, 1, 2]), helper.make_node("Cast", ["planes"], ["cast"], to=TensorProto.FLOAT), unit], scale))
model("signed", begins_with(TensorProto.INT8, image, [cast, unit], scale))
model("clips", begins_with(TensorProto.FLOAT, ["batch", 3, 4, 16, 16], [helper.make_node("ReduceMean", ["given"], ["ready"], axes=[2], keepdims=0)]))
model("clips-frames-first", begins_with(TensorProto.FLOAT, ["batch", 4, 3, 16, 16], [helper.make_node("ReduceMean", ["given"], ["ready"], axes=[1], keepdims=0)]))
model("flags", begins_with(TensorProto.BOOL, image, [cast, unit], scale))
model("wrong-reshape", wrong_reshape)
model("frames-lost", frames_lost)


network = onnx.load("models/tiny/model.onnx")
helper.set_model_props(network, {"task": "detect", "stride": "32", "imgsz": "[16, 16]", "names": str({0: "person", 1: "traffic light", 2: "it's", 3: 'say "a"', 4: "caf\u00e9"}), "author": "Ultralytics"})
os.makedirs("odd/ultralytics", exist_ok=True)
onnx.save(network, "odd/ultralytics/model.onnx")
