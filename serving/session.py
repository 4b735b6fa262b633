"""TensorFlow's C API for what a server needs: a SavedModel as a session, the way TF Serving loads and runs it.

TensorFlow's Python would load the same model by building Python functions, for seconds under Python's lock. Here lock
and answers are free meanwhile: ``ctypes`` gives the lock away during each call.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import math
import os
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from ctr.models.arrays import Array

_STRING: Final = int(tf.string.as_datatype_enum)
_SIZE_OF_STRING: Final = 24
"""Bytes of a ``TF_TString``."""
_CALLERS_THREAD: Final = -1


class _Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("free", c_void_p))


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


_SIGNATURES: Final[Mapping[str, tuple[Any, Sequence[Any]]]] = {
    "TF_NewStatus": (c_void_p, ()),
    "TF_GetCode": (c_int, (c_void_p,)),
    "TF_Message": (c_char_p, (c_void_p,)),
    "TF_DeleteStatus": (None, (c_void_p,)),
    "TF_NewBufferFromString": (POINTER(_Buffer), (c_char_p, c_size_t)),
    "TF_DeleteBuffer": (None, (POINTER(_Buffer),)),
    "TF_NewSessionOptions": (c_void_p, ()),
    "TF_SetConfig": (None, (c_void_p, c_char_p, c_size_t, c_void_p)),
    "TF_DeleteSessionOptions": (None, (c_void_p,)),
    "TF_NewGraph": (c_void_p, ()),
    "TF_DeleteGraph": (None, (c_void_p,)),
    "TF_GraphOperationByName": (c_void_p, (c_void_p, c_char_p)),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        (c_void_p, POINTER(_Buffer), c_char_p, POINTER(c_char_p), c_int, c_void_p, POINTER(_Buffer), c_void_p),
    ),
    "TF_CloseSession": (None, (c_void_p, c_void_p)),
    "TF_DeleteSession": (None, (c_void_p, c_void_p)),
    "TF_SessionRun": (
        None,
        (
            *(c_void_p, POINTER(_Buffer)),
            *(POINTER(_Output), POINTER(c_void_p), c_int),
            *(POINTER(_Output), POINTER(c_void_p), c_int),
            *(c_void_p, c_int, c_void_p, c_void_p),
        ),
    ),
    "TF_AllocateTensor": (c_void_p, (c_int, POINTER(c_int64), c_int, c_size_t)),
    "TF_DeleteTensor": (None, (c_void_p,)),
    "TF_TensorType": (c_int, (c_void_p,)),
    "TF_NumDims": (c_int, (c_void_p,)),
    "TF_Dim": (c_int64, (c_void_p, c_int)),
    "TF_TensorData": (c_void_p, (c_void_p,)),
    "TF_TensorByteSize": (c_size_t, (c_void_p,)),
    "TF_StringInit": (None, (c_void_p,)),
    "TF_StringCopy": (None, (c_void_p, c_char_p, c_size_t)),
    "TF_StringGetDataPointer": (c_void_p, (c_void_p,)),
    "TF_StringGetSize": (c_size_t, (c_void_p,)),
    "TF_StringDealloc": (None, (c_void_p,)),
}


_LONG: Final = frozenset({"TF_LoadSessionFromSavedModel", "TF_SessionRun", "TF_CloseSession", "TF_DeleteSession"})
"""During these alone others may have Python's lock. The rest takes less time than to get it back: a thread that runs a
batch would wait for all others again and again."""


@functools.cache
def _library() -> Any:
    folder = tf.sysconfig.get_lib()
    files = glob.glob(os.path.join(glob.escape(folder), "libtensorflow_cc.*"))
    if not files:
        raise OSError(f"{folder}: TensorFlow is installed without libtensorflow_cc, which serving needs")
    # TensorFlow has loaded it already; another copy would have its own devices.
    without_lock, library = ctypes.CDLL(files[0]), ctypes.PyDLL(files[0])
    for name, (result, arguments) in _SIGNATURES.items():
        if name in _LONG:
            setattr(library, name, getattr(without_lock, name))
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class _Status:
    def __init__(self) -> None:
        self.pointer = _library().TF_NewStatus()

    def check(self) -> None:
        code = _library().TF_GetCode(self.pointer)
        if code:
            message = _library().TF_Message(self.pointer).decode(errors="replace")
            raise tf.compat.v1.errors.exception_type_from_error_code(code)(None, None, message)

    def __enter__(self) -> _Status:
        return self

    def __exit__(self, *_: object) -> None:
        _library().TF_DeleteStatus(self.pointer)


class Session:
    """A SavedModel in memory. Safe to call from many threads; :meth:`close` waits for nothing, so call it last.

    Args:
      path: its directory.
      tags: of the graph.
      threads: that one operation of a request may use; a request runs in the thread that asks.

    Raises:
      tensorflow.errors.OpError: if there is no such SavedModel, or it cannot be loaded.
    """

    _closed = True

    def __init__(self, path: Path, tags: Sequence[str], threads: int = 1) -> None:
        library = _library()
        config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
        ).SerializeToString()
        self._pointer = None
        self._graph = library.TF_NewGraph()
        options = library.TF_NewSessionOptions()
        try:
            with _Status() as status:
                library.TF_SetConfig(options, config, len(config), status.pointer)
                status.check()
                self._pointer = library.TF_LoadSessionFromSavedModel(
                    *(options, None, os.fsencode(path)),
                    *((c_char_p * len(tags))(*(tag.encode() for tag in tags)), len(tags)),
                    *(self._graph, None, status.pointer),
                )
                status.check()
        except Exception:
            library.TF_DeleteGraph(self._graph)
            raise
        finally:
            library.TF_DeleteSessionOptions(options)
        run_options = config_pb2.RunOptions(inter_op_thread_pool=_CALLERS_THREAD).SerializeToString()
        self._run_options = library.TF_NewBufferFromString(run_options, len(run_options))
        self._closed = False

    def runner(self, signature: meta_graph_pb2.SignatureDef) -> Runner:
        """What runs a signature.

        Raises:
          ValueError: if the graph has no such tensor.
        """
        return Runner(self, signature)

    def output(self, info: meta_graph_pb2.TensorInfo) -> _Output:
        """A tensor of the graph."""
        name, _, index = info.name.partition(":")
        operation = _library().TF_GraphOperationByName(self._graph, name.encode())
        if not operation:
            raise ValueError(f"the graph has no tensor {info.name!r}, which a signature names")
        return _Output(operation, int(index or 0))

    def run(self, feeds: Any, values: Any, fetches: Any, results: Any) -> None:
        """Runs the graph; arguments as :class:`Runner` has them."""
        with _Status() as status:
            _library().TF_SessionRun(
                *(self._pointer, self._run_options),
                *(feeds, values, len(values)),
                *(fetches, results, len(results)),
                *(None, 0, None, status.pointer),
            )
            status.check()

    def close(self) -> None:
        """Frees the memory; nothing may run any more."""
        if self._closed:
            return
        self._closed = True
        library = _library()
        with _Status() as status:
            library.TF_CloseSession(self._pointer, status.pointer)
            library.TF_DeleteSession(self._pointer, status.pointer)
        library.TF_DeleteGraph(self._graph)
        library.TF_DeleteBuffer(self._run_options)

    def __del__(self) -> None:
        self.close()


class Runner:
    """Runs one signature of a session, and keeps that."""

    def __init__(self, session: Session, signature: meta_graph_pb2.SignatureDef) -> None:
        self._session = session
        self.inputs = sorted(signature.inputs)
        self.outputs = sorted(signature.outputs)
        self._dtypes = [signature.inputs[alias].dtype for alias in self.inputs]
        feeds = [session.output(signature.inputs[alias]) for alias in self.inputs]
        fetches = [session.output(signature.outputs[alias]) for alias in self.outputs]
        self._feeds = (_Output * len(feeds))(*feeds)
        self._fetches = (_Output * len(fetches))(*fetches)

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Input alias -> array, strings as an array of bytes objects; output alias -> array.

        Raises:
          tensorflow.errors.OpError: what the graph says.
        """
        library = _library()
        values = (c_void_p * len(self.inputs))()
        results = (c_void_p * len(self.outputs))()
        try:
            for index, (alias, dtype) in enumerate(zip(self.inputs, self._dtypes, strict=True)):
                values[index] = _to_tensor(inputs[alias], dtype)
            self._session.run(self._feeds, values, self._fetches, results)
            return {alias: _to_array(tensor) for alias, tensor in zip(self.outputs, results, strict=True)}
        finally:
            for tensor, dtype in zip(values, self._dtypes, strict=True):
                if tensor and dtype == _STRING:
                    _free_strings(tensor)
            for tensor in (*values, *results):
                if tensor:
                    library.TF_DeleteTensor(tensor)


def _to_tensor(values: Array, dtype: int) -> int:
    library = _library()
    shape = (c_int64 * values.ndim)(*values.shape)
    if dtype != _STRING:
        tensor: int = library.TF_AllocateTensor(dtype, shape, values.ndim, values.nbytes)
        values = np.ascontiguousarray(values)
        ctypes.memmove(library.TF_TensorData(tensor), values.ctypes.data, values.nbytes)
        return tensor
    tensor = library.TF_AllocateTensor(dtype, shape, values.ndim, values.size * _SIZE_OF_STRING)
    place = library.TF_TensorData(tensor) or 0
    for text in values.ravel():
        library.TF_StringInit(place)
        library.TF_StringCopy(place, text, len(text))
        place += _SIZE_OF_STRING
    return tensor


def _free_strings(tensor: int) -> None:
    """Of a tensor that was made here: TensorFlow frees those of its own alone."""
    library = _library()
    place = library.TF_TensorData(tensor) or 0
    for offset in range(0, library.TF_TensorByteSize(tensor), _SIZE_OF_STRING):
        library.TF_StringDealloc(place + offset)


def _to_array(tensor: int) -> Array:
    library = _library()
    dtype = library.TF_TensorType(tensor)
    shape = tuple(library.TF_Dim(tensor, index) for index in range(library.TF_NumDims(tensor)))
    place = library.TF_TensorData(tensor) or 0
    if dtype != _STRING:
        array = np.empty(shape, tf.as_dtype(dtype).as_numpy_dtype)
        ctypes.memmove(array.ctypes.data, place, array.nbytes)
        return array
    texts = np.empty(math.prod(shape), object)
    for index in range(texts.size):
        text = place + index * _SIZE_OF_STRING
        texts[index] = ctypes.string_at(library.TF_StringGetDataPointer(text), library.TF_StringGetSize(text))
    return texts.reshape(shape)
