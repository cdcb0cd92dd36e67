#!/usr/bin/env python3
"""A PyTorch training loop of one's own with libbalora's regularizers as an autograd function:  regularized_torch.py

A bigram language model is pre-trained on one text, then fine-tuned on another with L_task + the regularizer set, whose
terms and gradients libbalora computes in PyTorch's own memory, through DLPack, without a copy. The first steps are checked
against torch's own autograd. Needs PyTorch; libbalora.so.0 is found by the system's loader (LD_LIBRARY_PATH, ldconfig).
"""
import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p

import torch
import torch.nn.functional as F


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


def capsule_pointer(capsule):
    """The DLManagedTensor behind a capsule of tensor.__dlpack__()."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = c_void_p, [ctypes.py_object, c_char_p]
    return get(capsule, b"dltensor")


class Regularizers:
    """A balora_regularizers handle with the library's defaults (generation)."""

    def __init__(self, name="libbalora.so.0"):
        self.library = ctypes.CDLL(name)
        self.library.balora_error_message.restype = c_char_p
        self.context, self.handle = c_void_p(), c_void_p()
        self.call("context_create", byref(self.context), None)
        self.call("regularizers_create", byref(self.handle), self.context, None)

    def close(self):
        self.library.balora_regularizers_free(self.handle)
        self.library.balora_context_free(self.context)

    def call(self, function, *arguments):
        if getattr(self.library, "balora_" + function)(*arguments) != 0:
            raise RuntimeError(self.library.balora_error_message().decode())

    def view(self, tensor):
        """The tensor's memory as the library sees it. The capsule gives its reference back when it goes, so the caller
        keeps `tensor` alive as long as the view is used."""
        seen = Tensor(struct_size=ctypes.sizeof(Tensor))
        capsule = tensor.detach().__dlpack__()
        self.call("tensor_from_dlpack", byref(seen), c_void_p(capsule_pointer(capsule)))
        return seen

    def evaluate(self, student, teacher, mask, gradient, step, total_steps):
        if student.is_cuda:
            torch.cuda.synchronize(student.device)  # the library's own stream does not wait for torch's
        views = [self.view(x) for x in (student, teacher, mask, gradient)]
        inputs = Inputs(ctypes.sizeof(Inputs), *(ctypes.pointer(x) for x in views[:3]), None,
                        ctypes.pointer(views[3]), 0, 0, (c_double * 3)(), step, total_steps, 1.0)
        terms = Terms(struct_size=ctypes.sizeof(Terms))
        self.call("regularizers_evaluate", self.handle, byref(inputs), byref(terms))
        return terms


class RegularizerLoss(torch.autograd.Function):
    """The weighted sum of the terms; the gradient comes with the value."""

    @staticmethod
    def forward(ctx, student, teacher, mask, regularizers, step, total_steps):
        gradient = torch.empty_like(student)
        terms = regularizers.evaluate(student, teacher, mask, gradient, step, total_steps)
        ctx.save_for_backward(gradient)
        return student.new_tensor(terms.loss, dtype=torch.float32)

    @staticmethod
    def backward(ctx, upstream):
        gradient, = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None, None, None, None


def own_loss(student, teacher, mask, lambdas):
    """The same by torch's operations, for the check: generation, T = 2, K = 20, k = 10, Frobenius."""
    z, p = student[mask], teacher[mask]
    consistency = 4 * F.kl_div(F.log_softmax(z / 2, -1), F.log_softmax(p / 2, -1), log_target=True,
                               reduction="batchmean")
    log_q = F.log_softmax(z.topk(min(20, z.shape[-1])).values, -1)
    sigma = torch.linalg.svdvals(z)
    terms = (consistency, (log_q.exp() * log_q).sum(-1).mean(), -sigma[:10].sum() / sigma.norm())
    return sum(weight * term for weight, term in zip(lambdas, terms))


def check_against_autograd(regularizers, student, teacher, mask, step, total_steps):
    """One step's value and gradient by the library (fp32) and by torch (fp64)."""
    z = student.detach().clone().requires_grad_()
    loss = RegularizerLoss.apply(z, teacher, mask, regularizers, step, total_steps)
    loss.backward()
    terms = regularizers.evaluate(z.detach(), teacher, mask, torch.empty_like(z), step, total_steps)
    exact = student.detach().double().requires_grad_()
    expected = own_loss(exact, teacher.double(), mask,
                        (terms.lambda_consistency, terms.lambda_diversity, terms.lambda_svd))
    expected.backward()
    value_error = abs(terms.loss - expected.item()) / abs(expected.item())
    gradient_error = ((z.grad - exact.grad).norm() / exact.grad.norm()).item()
    print(f"step {step}: against autograd in float64 the value is off by {value_error:.1e}, "
          f"the gradient by {gradient_error:.1e}")
    assert value_error < 1e-5 and gradient_error < 1e-5


def batches(text, vocabulary, count, generator):
    data = torch.tensor([vocabulary.index(c) for c in text])
    for _ in range(count):
        starts = torch.randint(len(data) - 17, (8,), generator=generator)
        rows = torch.stack([data[s:s + 17] for s in starts])
        yield rows[:, :-1], rows[:, 1:]


def main():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    first = "the quick brown fox jumps over the lazy dog and the cat sat on the mat while it rained all day long. " * 8
    second = "a fox is a fox is a fox and a dog is a dog is a dog. " * 16
    vocabulary, steps = sorted(set(first + second)), 40
    model = torch.nn.Sequential(torch.nn.Embedding(len(vocabulary), 32), torch.nn.Linear(32, len(vocabulary)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for inputs, targets in batches(first, vocabulary, 200, generator):
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    print(f"pre-trained: task {loss.item():.4f}")

    with torch.no_grad():
        frozen = {name: value.clone() for name, value in model.state_dict().items()}
    regularizers = Regularizers()
    for step, (inputs, targets) in enumerate(batches(second, vocabulary, steps, generator)):
        logits = model(inputs)  # [8, 16, V]: leading dimensions are rows to the library
        with torch.no_grad():
            teacher = torch.func.functional_call(model, frozen, (inputs,))
        mask = torch.rand(targets.shape, generator=generator) < 0.8  # as if the rest were prompt
        if step in (5, 20, 39):
            check_against_autograd(regularizers, logits, teacher, mask, step, steps)
        task = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss = task + RegularizerLoss.apply(logits, teacher, mask, regularizers, step, steps)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        if step % 10 == 0 or step == steps - 1:
            print(f"{step:5d}  loss {loss.item():.4f}  task {task.item():.4f}")
    regularizers.close()


if __name__ == "__main__":
    main()
