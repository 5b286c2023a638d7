// Runs on the GPU, compiled there by NVRTC.

// N x H x W x 3 uint8 images to (value - mean) / scale, as float32 in the layout of a network's input.
extern "C" __global__ void normalise(const unsigned char* images, float* input, int count, int height, int width,
                                     int planar, float mean0, float mean1, float mean2, float scale0, float scale1,
                                     float scale2)
{
    const long long pixels = (long long)height * width;
    const long long all = pixels * count;
    const long long stride = (long long)gridDim.x * blockDim.x;
    const float mean[3] = {mean0, mean1, mean2};
    const float scale[3] = {scale0, scale1, scale2};
    for (long long pixel = (long long)blockIdx.x * blockDim.x + threadIdx.x; pixel < all; pixel += stride) {
        const long long image = pixel / pixels;
        for (int channel = 0; channel < 3; ++channel) {
            const float value = ((float)images[pixel * 3 + channel] - mean[channel]) / scale[channel];
            const long long plane = (image * 3 + channel) * pixels + pixel % pixels;
            input[planar ? plane : pixel * 3 + channel] = value;
        }
    }
}
