"""An ONNX graph written node by node: every call gives the name of what it computes, which the next ones take."""

from typing import Any

import numpy as np
import numpy.typing as npt

OPSET, IR_VERSION = 18, 10
INT64, FLOAT, DOUBLE = 7, 1, 11  #: numbers of `onnx.TensorProto` for the operator Cast


class Graph:
    """Nodes and constants in the order of writing, which is the order of computing."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}

    def constant(self, array: Any) -> str:
        """An array or a number as a tensor of the graph."""
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.ascontiguousarray(array).reshape(np.shape(array))
        return name

    def whole(self, *numbers: int) -> str:
        """Whole numbers as a tensor of one dimension: axes, ends and shapes."""
        return self.constant(np.array(numbers, np.int64))

    def node(self, operator: str, *inputs: str, out: str = "", n_outputs: int = 1, **options: Any) -> Any:
        """Compute one operator; the name of its output, or a tuple of names where there are several."""
        from onnx import helper

        made = out or f"{operator}_{len(self._nodes)}"
        names = [made] if n_outputs == 1 else [f"{made}_{i}" for i in range(n_outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **options))
        return made if n_outputs == 1 else tuple(names)

    def cast(self, tensor: str, to: int) -> str:
        """The tensor in another type of numbers."""
        name: str = self.node("Cast", tensor, to=to)
        return name

    def model(self, n_classes: int, notes: dict[str, str]) -> Any:
        """The whole, checked, from `ids` (posts, tokens) and `lengths` (posts) to `probabilities` (posts, C)."""
        from onnx import TensorProto, checker, helper, numpy_helper

        inputs = [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["posts", "tokens"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["posts"]),
        ]
        outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["posts", n_classes])]
        constants = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        graph = helper.make_graph(self._nodes, "bundle", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        helper.set_model_props(model, notes)
        checker.check_model(model)
        return model
