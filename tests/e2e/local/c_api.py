"""Runs a SavedModel by TensorFlow's C API as TF Serving does by its C++ one, in a process without TensorFlow's Python.

Arguments: the folder of TensorFlow's libraries, that of the SavedModel, a file of requests, and one for the answer. A
request holds ``feeds``, tensor name -> int64 or (as latin-1) string values, and ``fetches``, names of float tensors.
"""

from __future__ import annotations

import ctypes
import json
import sys
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

FLOAT, STRING, INT64 = 1, 7, 9
STRING_BYTES = 24
"""Of a TF_TString."""


class Output(ctypes.Structure):
    """TF_Output."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


class Buffer(ctypes.Structure):
    """TF_Buffer."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("free", c_void_p))


class Library:
    """libtensorflow_cc, with the types of the functions in use."""

    _TYPES: dict[str, tuple[Any, list[Any]]] = {  # noqa: RUF012
        "TF_NewStatus": (c_void_p, []),
        "TF_GetCode": (c_int, [c_void_p]),
        "TF_Message": (c_char_p, [c_void_p]),
        "TF_NewGraph": (c_void_p, []),
        "TF_NewSessionOptions": (c_void_p, []),
        "TF_LoadSessionFromSavedModel": (
            c_void_p,
            [c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, c_void_p, c_void_p],
        ),
        "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
        "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
        "TF_TensorData": (c_void_p, [c_void_p]),
        "TF_TensorType": (c_int, [c_void_p]),
        "TF_NumDims": (c_int, [c_void_p]),
        "TF_Dim": (c_int64, [c_void_p, c_int]),
        "TF_DeleteTensor": (None, [c_void_p]),
        "TF_StringInit": (None, [c_void_p]),
        "TF_StringCopy": (None, [c_void_p, c_char_p, c_size_t]),
        "TF_GetAllOpList": (POINTER(Buffer), []),
        "TF_SessionRun": (
            None,
            [
                *(c_void_p, c_void_p, POINTER(Output), POINTER(c_void_p), c_int),
                *(POINTER(Output), POINTER(c_void_p), c_int, c_void_p, c_int, c_void_p, c_void_p),
            ],
        ),
    }

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
        for name, (returns, takes) in self._TYPES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = returns, takes
        self.status = self.TF_NewStatus()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def check(self) -> None:
        """Stops with TensorFlow's message if the last call failed."""
        if self.TF_GetCode(self.status):
            sys.exit(self.TF_Message(self.status).decode())

    def ops(self) -> bytes:
        """A serialized OpList of all that are registered."""
        buffer = self.TF_GetAllOpList().contents
        return ctypes.string_at(buffer.data, buffer.length)

    def tensor(self, values: Any) -> Any:
        """Of int64, or of strings."""
        array = np.array(values)
        strings = array.dtype.kind == "U"
        dims = (c_int64 * array.ndim)(*array.shape)
        size = array.size * (STRING_BYTES if strings else 8)
        tensor = self.TF_AllocateTensor(STRING if strings else INT64, dims, array.ndim, size)
        start = self.TF_TensorData(tensor)
        if not strings:
            ctypes.memmove(start, array.astype("<i8").tobytes(), size)
            return tensor
        # Not numpy's own strings, which end at a NUL.
        for index, value in enumerate(values):
            content = value.encode("latin-1")
            self.TF_StringInit(start + index * STRING_BYTES)
            self.TF_StringCopy(start + index * STRING_BYTES, content, len(content))
        return tensor

    def values(self, tensor: Any) -> Any:
        """Of floats, as nested lists."""
        assert self.TF_TensorType(tensor) == FLOAT
        shape = [self.TF_Dim(tensor, index) for index in range(self.TF_NumDims(tensor))]
        content = ctypes.string_at(self.TF_TensorData(tensor), 4 * int(np.prod(shape)))
        return np.frombuffer(content, "<f4").reshape(shape).tolist()


def main(libraries: str, saved_model: str, requests: str, answers: str) -> None:
    """Answers the requests."""
    library = Library(Path(libraries))
    graph = library.TF_NewGraph()
    session = library.TF_LoadSessionFromSavedModel(
        *(library.TF_NewSessionOptions(), None, saved_model.encode()),
        *((c_char_p * 1)(b"serve"), 1, graph, None, library.status),
    )
    library.check()

    def output(name: str) -> Output:
        operation, _, index = name.partition(":")
        found = library.TF_GraphOperationByName(graph, operation.encode())
        assert found, f"no operation {operation}"
        return Output(found, int(index or 0))

    answered = []
    for request in json.loads(Path(requests).read_text(encoding="utf-8")):
        feeds, fetches = request["feeds"], request["fetches"]
        tensors = (c_void_p * len(feeds))(*map(library.tensor, feeds.values()))
        found = (c_void_p * len(fetches))()
        library.TF_SessionRun(
            *(session, None, (Output * len(feeds))(*map(output, feeds)), tensors, len(feeds)),
            *((Output * len(fetches))(*map(output, fetches)), found, len(fetches), None, 0, None, library.status),
        )
        library.check()
        answered.append({name: library.values(tensor) for name, tensor in zip(fetches, found, strict=True)})
    assert "tensorflow" not in sys.modules
    answer = {"answers": answered, "ops": library.ops().decode("latin-1")}
    Path(answers).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
