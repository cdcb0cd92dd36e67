#!/usr/bin/env python3
"""Fine-tune a model folder on a data file with BA-LoRA, through ctypes:  train.py MODEL DATA OUT

Needs nothing but Python; libbalora.so.0 is found by the system's loader (LD_LIBRARY_PATH, ldconfig).
"""
import ctypes
import sys
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p

OK, DONE = 0, 1
OPTIONS_ADAPTER, OPTION_TEXT = 30, 50


class AdapterOptions(Structure):
    """balora_adapter_options: fields in the order of balora/adapter.h."""
    _fields_ = ([("struct_size", c_uint64), ("method", c_int32), ("use_rslora", c_int32), ("rank", c_int64),
                 ("alpha", c_double), ("target_modules", c_char_p), ("seed", c_uint64), ("full_svd", c_int32),
                 ("use_dora", c_int32)]
                + [(name, c_char_p) for name in ("exclude_modules", "layers_to_transform", "rank_pattern",
                                                 "alpha_pattern", "modules_to_save", "pissa_modules")]
                + [("bias", c_int32), ("init", c_int32), ("lora_dropout", c_double)])


class StepMetrics(Structure):
    """balora_step_metrics: fields in the order of balora/trainer.h."""
    _fields_ = ([("struct_size", c_uint64), ("step", c_int64)]
                + [(name, c_double) for name in ("epoch", "loss", "task", "consistency", "diversity", "svd",
                                                 "grad_norm", "lambda_consistency", "lambda_diversity",
                                                 "lambda_svd", "learning_rate")]
                + [("tokens", c_int64), ("supervised_tokens", c_int64), ("seconds", c_double),
                   ("peak_memory_bytes", c_int64), ("skipped", c_int64)])


class Library:
    """libbalora.so.0 with declared arguments; a failing call raises its message."""

    def __init__(self, name="libbalora.so.0"):
        self._library = ctypes.CDLL(name)
        self._library.balora_error_message.restype = c_char_p
        handle, out = c_void_p, POINTER(c_void_p)
        for function, arguments in {
            "context_create": [out, c_void_p],
            "model_open": [out, handle, c_char_p, c_void_p],
            "adapter_create": [out, handle, POINTER(AdapterOptions)],
            "adapter_save": [handle, c_char_p, c_char_p],
            "data_open": [out, handle, c_char_p, c_void_p],
            "trainer_create": [out, handle, handle, c_void_p],
            "trainer_step": [handle, POINTER(StepMetrics)],
        }.items():
            getattr(self._library, "balora_" + function).argtypes = arguments
        for kind in ("context", "model", "adapter", "data", "trainer"):
            free = getattr(self._library, f"balora_{kind}_free")
            free.argtypes, free.restype = [handle], None

    def call(self, function, *arguments):
        status = getattr(self._library, "balora_" + function)(*arguments)
        if status not in (OK, DONE):
            raise RuntimeError(self._library.balora_error_message().decode())
        return status

    def make(self, function, *arguments):
        handle = c_void_p()
        self.call(function, byref(handle), *arguments)
        return handle

    def free(self, kind, handle):
        getattr(self._library, f"balora_{kind}_free")(handle)

    def options(self, group, structure):
        """A struct with the library's defaults, set by key from the list of options."""
        class Description(Structure):
            _fields_ = [("struct_size", c_uint64), ("key", c_char_p), ("type", c_int32), ("reserved", c_int32),
                        ("default_value", c_char_p), ("choices", c_char_p), ("minimum", c_double),
                        ("maximum", c_double), ("help", c_char_p)]
        made, one, index = structure(struct_size=ctypes.sizeof(structure)), Description(), 0
        one.struct_size = ctypes.sizeof(one)
        while self.call("options_describe", c_int32(group), c_int64(index), byref(one)) == OK:
            if one.type != OPTION_TEXT:  # a text is borrowed, and NULL already means its default
                self.call("options_set", c_int32(group), byref(made), c_char_p(one.key), c_char_p(one.default_value))
            index += 1
        return made


def main(model_folder, data_path, out_folder):
    balora = Library()
    context = balora.make("context_create", None)
    model = balora.make("model_open", context, model_folder.encode(), None)
    options = balora.options(OPTIONS_ADAPTER, AdapterOptions)
    options.rank = 4
    adapter = balora.make("adapter_create", model, byref(options))
    data = balora.make("data_open", model, data_path.encode(), None)
    trainer = balora.make("trainer_create", adapter, data, None)
    metrics = StepMetrics(struct_size=ctypes.sizeof(StepMetrics))
    while balora.call("trainer_step", trainer, byref(metrics)) == OK:
        print(f"{metrics.step:5d}  loss {metrics.loss:.4f}  consistency {metrics.consistency:.6f}")
    balora.call("adapter_save", adapter, out_folder.encode(), None)
    for kind, handle in (("trainer", trainer), ("data", data), ("adapter", adapter), ("model", model),
                         ("context", context)):
        balora.free(kind, handle)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
