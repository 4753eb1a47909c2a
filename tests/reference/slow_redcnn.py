"""RED-CNN as its figure is read: one convolution after the other, the shortcuts by name."""

import numpy as np


def red_cnn(scaled, encoder, decoder):
    """`(H, W)` in unit scale to the same.

    Args:
        scaled: The slice.
        encoder: Five `(kernel, bias)`; kernels `(5, 5, in, out)`.
        decoder: Five `(kernel, bias)`; kernels `(5, 5, out, in)`.
    """
    x = scaled[:, :, None]
    conv1 = relu(convolve(x, *encoder[0]))
    conv2 = relu(convolve(conv1, *encoder[1]))
    conv3 = relu(convolve(conv2, *encoder[2]))
    conv4 = relu(convolve(conv3, *encoder[3]))
    conv5 = relu(convolve(conv4, *encoder[4]))
    deconv1 = relu(transpose(conv5, *decoder[0]) + conv4)
    deconv2 = relu(transpose(deconv1, *decoder[1]))
    deconv3 = relu(transpose(deconv2, *decoder[2]) + conv2)
    deconv4 = relu(transpose(deconv3, *decoder[3]))
    deconv5 = relu(transpose(deconv4, *decoder[4]) + x)
    return deconv5[:, :, 0]


def convolve(image, kernel, bias):
    """`(H, W, in)` to `(H - k + 1, W - k + 1, out)`: each output pixel gathers from those under the kernel."""
    side = kernel.shape[0]
    out = np.zeros((image.shape[0] - side + 1, image.shape[1] - side + 1, kernel.shape[3])) + bias
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] += np.einsum("ijc,ijcd->d", image[y : y + side, x : x + side], kernel)
    return out


def transpose(image, kernel, bias):
    """`(H, W, in)` to `(H + k - 1, W + k - 1, out)`: each input pixel scatters what lies under the kernel."""
    side = kernel.shape[0]
    out = np.zeros((image.shape[0] + side - 1, image.shape[1] + side - 1, kernel.shape[2])) + bias
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y : y + side, x : x + side] += kernel @ image[y, x]
    return out


def relu(features):
    return np.maximum(features, 0)
