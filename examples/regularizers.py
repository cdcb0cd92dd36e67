#!/usr/bin/env python3
"""The regularizers on logits of one's own, through ctypes and nothing else:  regularizers.py

Descends the gradient of the regularizer set alone: a student's logits are drawn back to the teacher's, spread wider over
their top tokens, and gathered in fewer directions, without any model behind them. Any object with a buffer (array, numpy.ndarray) does; here it is
array.array, so that plain Python runs it. regularized_torch.py has the same as a PyTorch autograd function.
"""
import array
import ctypes
import math
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p

F32, ROWS, COLUMNS = 10, 12, 30


class Tensor(Structure):
    """balora_tensor: fields in the order of balora/tensor.h."""
    _fields_ = [("struct_size", c_uint64), ("data", c_void_p), ("dtype", c_int32), ("rank", c_int32),
                ("device", c_int32), ("device_index", c_int32), ("read_only", c_int32), ("reserved", c_int32),
                ("shape", c_int64 * 8), ("strides", c_int64 * 8)]


class Inputs(Structure):
    """balora_regularizer_inputs: fields in the order of balora/regularizer.h."""
    _fields_ = [("struct_size", c_uint64), ("student", POINTER(Tensor)), ("teacher", POINTER(Tensor)),
                ("mask", POINTER(Tensor)), ("indices", POINTER(Tensor)), ("gradient", POINTER(Tensor)),
                ("accumulate", c_int32), ("use_lambdas", c_int32), ("lambdas", c_double * 3), ("step", c_int64),
                ("total_steps", c_int64), ("gradient_scale", c_double)]


class Terms(Structure):
    """balora_regularizer_terms."""
    _fields_ = ([("struct_size", c_uint64)]
                + [(name, c_double) for name in ("loss", "consistency", "diversity", "svd", "lambda_consistency",
                                                 "lambda_diversity", "lambda_svd", "relative_teacher_entropy")]
                + [("rows", c_int64), ("workspace_bytes", c_int64)])


balora = ctypes.CDLL("libbalora.so.0")
balora.balora_error_message.restype = c_char_p


def call(function, *arguments):
    if getattr(balora, "balora_" + function)(*arguments) != 0:
        raise RuntimeError(balora.balora_error_message().decode())


def view(numbers):
    """The numbers [ROWS, COLUMNS] where they lie."""
    address, count = numbers.buffer_info()
    assert count == ROWS * COLUMNS and numbers.itemsize == 4
    tensor = Tensor(struct_size=ctypes.sizeof(Tensor))
    call("tensor_contiguous", byref(tensor), c_void_p(address), c_int32(F32), c_int32(2),
         (c_int64 * 2)(ROWS, COLUMNS))
    return tensor


def main():
    context, regularizers = c_void_p(), c_void_p()
    call("context_create", byref(context), None)
    call("regularizers_create", byref(regularizers), context, None)
    teacher = array.array("f", (2 * math.sin(0.37 * i * i) for i in range(ROWS * COLUMNS)))
    student = array.array("f", (x + 0.5 * math.sin(0.61 * i * i) for i, x in enumerate(teacher)))
    gradient = array.array("f", bytes(4 * len(student)))
    views = [view(x) for x in (student, teacher, gradient)]
    inputs = Inputs(ctypes.sizeof(Inputs), ctypes.pointer(views[0]), ctypes.pointer(views[1]), None, None,
                    ctypes.pointer(views[2]), 0, 1, (c_double * 3)(1.0, 0.05, 0.05), 0, 0, 1.0)
    terms = Terms(struct_size=ctypes.sizeof(Terms))
    for step in range(41):
        call("regularizers_evaluate", regularizers, byref(inputs), byref(terms))
        if step % 10 == 0:
            print(f"{step:3d}  loss {terms.loss:.6f}  consistency {terms.consistency:.6f}  "
                  f"diversity {terms.diversity:.4f}  svd {terms.svd:.4f}")
        for i, slope in enumerate(gradient):
            student[i] -= 2.0 * slope
    balora.balora_regularizers_free(regularizers)
    balora.balora_context_free(context)


if __name__ == "__main__":
    main()
