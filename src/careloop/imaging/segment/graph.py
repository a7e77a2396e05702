"""Changes to a network's OpenVINO graph that leave its function alone: exacter means, and less memory.

OpenVINO 2026's CPU plugin sums instance normalisation's mean and variance voxel by voxel in single precision: on a
patch of 128^3 voxels the result is off by 1e-3 of a standard deviation, enough to change labels. And it joins skip and
upsampled features in a buffer of their own before the convolution that reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import openvino

SUMMED_PLAINLY = 512  # so many numbers are summed one after another without loss that matters
NORMALIZED_PLAINLY = 4096  # so few voxels leave OpenVINO's own normalisation exact enough
POOL = 8  # at most so many voxels along an axis are averaged in one step


def improve(model: openvino.Model) -> None:
    """Change `model`, whose shapes must be static, in place."""
    split_joined_convolutions(model)
    average_in_steps(model)
    model.validate_nodes_and_infer_types()


def split_joined_convolutions(model: openvino.Model) -> None:
    """Replace convolution(concat(a, b), W) by convolution(a, W_a) + convolution(b, W_b), which joins nothing."""
    from openvino import opset13

    for node in model.get_ordered_ops():
        if not reads_joined_channels(node):
            continue
        joined, kernel = (node.input_value(i).get_node() for i in (0, 1))
        inputs = joined.input_values()
        edges = np.cumsum([value.get_shape()[1] for value in inputs])[:-1]
        kernels = np.split(kernel.get_data(), edges, axis=1)
        how = [node.get_attributes()[name] for name in ("strides", "pads_begin", "pads_end", "dilations")]
        total: Any = None
        for value, part in zip(inputs, kernels, strict=True):
            term = opset13.convolution(value, opset13.constant(np.ascontiguousarray(part)), *how)
            total = term if total is None else opset13.add(total, term)
        node.output(0).replace(total.output(0))


def reads_joined_channels(node: Any) -> bool:
    """True for a convolution, padded by stated amounts and with a known kernel, of channels that are joined for it."""
    if node.get_type_name() != "Convolution" or node.get_attributes()["auto_pad"] != "explicit":
        return False
    joined, kernel = (node.input_value(i).get_node() for i in (0, 1))
    if joined.get_type_name() != "Concat" or kernel.get_type_name() != "Constant":
        return False
    return joined.get_attributes()["axis"] in (1, 1 - len(joined.get_output_shape(0)))


def average_in_steps(model: openvino.Model) -> None:
    """Replace normalisation over all voxels of a channel by one whose mean and variance are averages of averages."""
    from openvino import opset13

    for node in model.get_ordered_ops():
        if not is_instance_normalisation(node):
            continue
        x, attributes = node.input_value(0), node.get_attributes()
        mean = stepwise_mean(x)
        from_mean = opset13.subtract(x, mean)
        variance = stepwise_mean(opset13.multiply(from_mean, from_mean).output(0))
        epsilon = opset13.constant(np.float32(attributes["eps"]))
        scale = opset13.divide(opset13.constant(np.float32(1)), opset13.sqrt(opset13.add(variance, epsilon)))
        # x * scale - mean * scale, not from_mean * scale: that would keep a whole array between the two sweeps
        result = opset13.subtract(opset13.multiply(x, scale), opset13.multiply(mean, scale))
        node.output(0).replace(result.output(0))


def is_instance_normalisation(node: Any) -> bool:
    """True for mean and variance over all voxels of each channel, where there are many."""
    if node.get_type_name() != "MVN" or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    attributes, shape = node.get_attributes(), node.get_output_shape(0)
    axes = sorted(int(axis) % len(shape) for axis in np.atleast_1d(node.input_value(1).get_node().get_data()))
    usual = attributes["normalize_variance"] and str(attributes["eps_mode"]).lower() == "inside_sqrt"
    return (
        usual
        and len(shape) in (4, 5)
        and axes == list(range(2, len(shape)))
        and np.prod(shape[2:]) > NORMALIZED_PLAINLY
    )


def stepwise_mean(x: openvino.Output) -> Any:
    """Mean of each channel: blocks of equal size are averaged, then blocks of these, and the few that are left."""
    from openvino import opset13

    while np.prod(x.get_shape()[2:]) > SUMMED_PLAINLY:
        kernel = [max(size for size in range(1, POOL + 1) if length % size == 0) for length in x.get_shape()[2:]]
        if max(kernel) == 1:
            break
        nothing = [0] * len(kernel)
        x = opset13.avg_pool(x, kernel, nothing, nothing, kernel, True).output(0)
    axes = opset13.constant(np.arange(2, len(x.get_shape())))
    return opset13.reduce_mean(x, axes, keep_dims=True)
