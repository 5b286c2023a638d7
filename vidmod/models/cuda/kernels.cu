// The kernels of vidmod: CUDA C++ without headers, for NVRTC and nvcc alike.
//
// Integer arithmetic throughout but for `normalise`. Right shifts of negative numbers round down, as everywhere that
// CUDA runs. What each one computes, and where it comes from, is told in twin.py, which does the same with NumPy.

typedef unsigned char byte;
typedef unsigned short word;

__device__ static inline int clipped(int value, int highest)
{
    return value < 0 ? 0 : value > highest ? highest : value;
}

// uint8 images, count x height x width x 3, to the float32 input of a network: (value - mean) / scale, planar (NCHW) or
// as they are (NHWC). Threads: x, as many as one likes; each takes a pixel and goes on by as many as there are threads.
extern "C" __global__ void normalise(const byte *images, float *input, int count, int height, int width, int planar,
                                     float mean0, float mean1, float mean2, float scale0, float scale1, float scale2)
{
    const long long plane = (long long)height * width;
    const long long threads = (long long)gridDim.x * blockDim.x;
    for (long long pixel = (long long)blockIdx.x * blockDim.x + threadIdx.x; pixel < plane * count; pixel += threads) {
        const byte *from = images + pixel * 3;
        float *to = input + (planar ? pixel / plane * plane * 3 + pixel % plane : pixel * 3);
        const long long step = planar ? plane : 1;
        to[0] = ((float)from[0] - mean0) / scale0;
        to[step] = ((float)from[1] - mean1) / scale1;
        to[2 * step] = ((float)from[2] - mean2) / scale2;
    }
}

template <class Sample>
__device__ static inline int weighted(const Sample *from, int step, const short *weights, int taps)
{
    int sum = 0;
    for (int tap = 0; tap < taps; tap++)
        sum += from[tap * step] * weights[tap];
    return sum;
}

// Lines of samples to lines of another length, 15 bits a sample. `channels` of them take turns in a line.
// Threads: x over width * channels, y over rows.
extern "C" __global__ void scale_rows(const byte *plane, long long line_size, int sample_bytes, int channels, int rows,
                                      short *scaled, int width, const int *first, const short *weights, int taps)
{
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    const int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (place >= width * channels || row >= rows)
        return;
    const int x = place / channels;
    const int sample = first[x] * channels + place % channels;
    const byte *line = plane + row * line_size;
    const short *own = weights + x * taps;
    const int value = sample_bytes == 1 ? weighted(line + sample, channels, own, taps) >> 7
                                        : weighted((const word *)line + sample, channels, own, taps) >> 15;
    scaled[(long long)row * width * channels + place] = (short)(value < 32767 ? value : 32767);
}

// How the rows of an output row are added up: Blend in scaling.py.
enum { ROUNDED, CUT, FINE_ROUNDED, FINE_CUT, WORDS, WORDS_CUT, WORDS_PAIR };

struct Rows
{
    const short *samples; // the first row's
    int line;             // samples from one row to the next that counts
    int last;             // the last row that there is, counted from the first
    const short *weights;
    int taps;
};

__device__ static inline int row_of(const Rows &rows, int tap)
{
    return rows.samples[(long long)(tap < rows.last ? tap : rows.last) * rows.line];
}

__device__ static inline int blended(const Rows &rows, int blend)
{
    if (blend == WORDS_PAIR)
        return (row_of(rows, 1) >> 4) + (((row_of(rows, 0) - row_of(rows, 1)) * rows.weights[0]) >> 16);
    const int each = blend == WORDS ? 16 : 0;
    const int all = blend == WORDS ? 0 : blend >= WORDS ? 16 : blend >= FINE_ROUNDED ? 10 : 19;
    int sum = blend == ROUNDED ? 1 << 18 : blend == FINE_ROUNDED ? 1 << 9 : blend == WORDS ? 4 : 0;
    for (int tap = 0; tap < rows.taps; tap++)
        sum += (row_of(rows, tap) * rows.weights[tap]) >> each;
    return sum >> all;
}

// One pixel's red, green and blue from what `blended` gives.
__device__ static inline void converted(int luma, int cb, int cr, int blend, const int *colours, int *rgb)
{
    if (blend >= WORDS) {
        const int grey = ((luma - colours[6]) * colours[8]) >> 16;
        cb -= 128 << 3;
        cr -= 128 << 3;
        rgb[0] = grey + ((cr * colours[9]) >> 16);
        rgb[1] = grey + ((cb * colours[10]) >> 16) + ((cr * colours[11]) >> 16);
        rgb[2] = grey + ((cb * colours[12]) >> 16);
    } else if (blend >= FINE_ROUNDED) {
        const long long grey = (long long)(luma - colours[7]) * colours[8] + (1 << 21);
        cb -= 128 << 9;
        cr -= 128 << 9;
        rgb[0] = (int)((grey + (long long)cr * colours[9]) >> 22);
        rgb[1] = (int)((grey + (long long)cb * colours[10] + (long long)cr * colours[11]) >> 22);
        rgb[2] = (int)((grey + (long long)cb * colours[12]) >> 22);
    } else {
        cb = clipped(cb, 255);
        cr = clipped(cr, 255);
        const int red = ((cr * colours[2]) >> 16) - (colours[2] >> 9);
        const int green = ((cb * colours[3]) >> 16) - (colours[3] >> 9) + ((cr * colours[4]) >> 16) - (colours[4] >> 9);
        const int blue = ((cb * colours[5]) >> 16) - (colours[5] >> 9);
        const int base = colours[0] + (1 << 15);
        rgb[0] = (base + (luma + red) * colours[1]) >> 16;
        rgb[1] = (base + (luma + green) * colours[1]) >> 16;
        rgb[2] = (base + (luma + blue) * colours[1]) >> 16;
    }
}

// Rows of 15-bit samples to an image, height x width x 3, of which the pixel at (0, 0) is the scaled and turned
// picture's at (left, top); black where there is no picture. Each thread makes one pixel of the image.
// `orientation`: 1 if the axes change places, then 2 if x runs backward, 4 if y does.
// Threads: x over width, y over height.
extern "C" __global__ void compose(const short *luma, const short *chroma, byte *image, int luma_rows, int chroma_rows,
                                   const int *luma_first, const short *luma_weights, int luma_taps,
                                   const int *chroma_first, const short *chroma_weights, int chroma_taps,
                                   const int *blends, const int *colours, int row_step, int chroma_shift,
                                   int scaled_width, int scaled_height, int width, int height, int left, int top,
                                   int orientation, int bgr)
{
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    const int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (column >= width || row >= height)
        return;
    const int shown_width = orientation & 1 ? scaled_height : scaled_width;
    const int shown_height = orientation & 1 ? scaled_width : scaled_height;
    const int across = column + left, down = row + top;
    int rgb[3] = {0, 0, 0};
    if (across >= 0 && down >= 0 && across < shown_width && down < shown_height) {
        const int turned_x = orientation & 2 ? shown_width - 1 - across : across;
        const int turned_y = orientation & 4 ? shown_height - 1 - down : down;
        const int x = orientation & 1 ? turned_y : turned_x;
        const int y = orientation & 1 ? turned_x : turned_y;
        const int pairs = (scaled_width + chroma_shift) >> chroma_shift;
        const long long luma_at = (long long)luma_first[y] * scaled_width + x;
        const long long chroma_at = ((long long)chroma_first[y] * pairs + (x >> chroma_shift)) * 2;
        const int luma_last = (luma_rows - 1 - luma_first[y]) / row_step;
        const int chroma_last = (chroma_rows - 1 - chroma_first[y]) / row_step;
        const short *own = chroma_weights + y * chroma_taps;
        const Rows grey = {luma + luma_at, row_step * scaled_width, luma_last, luma_weights + y * luma_taps, luma_taps};
        const Rows cb = {chroma + chroma_at, row_step * pairs * 2, chroma_last, own, chroma_taps};
        const Rows cr = {chroma + chroma_at + 1, row_step * pairs * 2, chroma_last, own, chroma_taps};
        converted(blended(grey, blends[y]), blended(cb, blends[y]), blended(cr, blends[y]), blends[y], colours, rgb);
    }
    byte *to = image + ((long long)row * width + column) * 3;
    to[0] = (byte)clipped(rgb[bgr ? 2 : 0], 255);
    to[1] = (byte)clipped(rgb[1], 255);
    to[2] = (byte)clipped(rgb[bgr ? 0 : 2], 255);
}

// The sizes of a JPEG's components (4:2:0), in samples and in blocks of 8 x 8, and where their planes begin.
struct Component
{
    int width, height, across, down, at;
};

__device__ static inline Component component(int number, int width, int height)
{
    const int half_width = (width + 1) / 2, half_height = (height + 1) / 2;
    const Component luma = {width, height, (width + 7) / 8, (height + 7) / 8, 0};
    Component chroma = {half_width, half_height, (half_width + 7) / 8, (half_height + 7) / 8, 0};
    if (number == 0)
        return luma;
    chroma.at = 64 * (luma.across * luma.down + (number - 1) * chroma.across * chroma.down);
    return chroma;
}

// One of Y, Cb and Cr of a pixel (JFIF), with libjpeg's 16 bits after the point.
__device__ static inline int coded(const byte *pixel, int number, int bgr)
{
    const int red = pixel[bgr ? 2 : 0], green = pixel[1], blue = pixel[bgr ? 0 : 2];
    if (number == 0)
        return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
    const int middle = (128 << 16) + 32767;
    if (number == 1)
        return (-11059 * red - 21709 * green + 32768 * blue + middle) >> 16;
    return (32768 * red - 27439 * green - 5329 * blue + middle) >> 16;
}

// A component's sample; chroma is the mean of four pixels, rounded up and down by turns.
__device__ static inline int sampled(const byte *image, int width, int height, int number, int x, int y, int bgr)
{
    const long long line = (long long)width * 3;
    if (number == 0)
        return coded(image + y * line + x * 3, 0, bgr);
    const int left = 2 * x < width ? 2 * x : width - 1, right = 2 * x + 1 < width ? 2 * x + 1 : width - 1;
    const byte *top = image + 2 * y * line;
    const byte *bottom = image + (2 * y + 1 < height ? 2 * y + 1 : height - 1) * line;
    const int sum = coded(top + left * 3, number, bgr) + coded(top + right * 3, number, bgr) +
                    coded(bottom + left * 3, number, bgr) + coded(bottom + right * 3, number, bgr);
    return (sum + 1 + (x & 1)) >> 2;
}

__device__ static inline int descaled(int value, int bits)
{
    return (value + (1 << (bits - 1))) >> bits;
}

// The odd half that both directions of Loeffler, Ligtenberg and Moschytz' DCT share; 13 bits after the point.
__device__ static inline void odd_part(int &a, int &b, int &c, int &d)
{
    const int all = (a + b + c + d) * 9633;
    const int ad = (a + d) * -7373, bc = (b + c) * -20995;
    const int ac = (a + c) * -16069 + all, bd = (b + d) * -3196 + all;
    a = a * 2446 + ad + ac;
    b = b * 16819 + bc + bd;
    c = c * 25172 + bc + ac;
    d = d * 12299 + ad + bd;
}

// Eight values `step` apart, in place; results are 8 times too large after both directions.
__device__ static inline void forward(int *v, int step, int is_second)
{
    const int s0 = v[0] + v[7 * step], s1 = v[step] + v[6 * step];
    const int s2 = v[2 * step] + v[5 * step], s3 = v[3 * step] + v[4 * step];
    int d3 = v[0] - v[7 * step], d2 = v[step] - v[6 * step];
    int d1 = v[2 * step] - v[5 * step], d0 = v[3 * step] - v[4 * step];
    const int even0 = s0 + s3 + s1 + s2, even4 = s0 + s3 - s1 - s2;
    const int a = s0 - s3, b = s1 - s2;
    const int z = (a + b) * 4433;
    const int bits = is_second ? 15 : 11;
    v[0] = is_second ? descaled(even0, 2) : even0 * 4;
    v[4 * step] = is_second ? descaled(even4, 2) : even4 * 4;
    v[2 * step] = descaled(z + a * 6270, bits);
    v[6 * step] = descaled(z - b * 15137, bits);
    odd_part(d0, d1, d2, d3);
    v[7 * step] = descaled(d0, bits);
    v[5 * step] = descaled(d1, bits);
    v[3 * step] = descaled(d2, bits);
    v[step] = descaled(d3, bits);
}

__device__ static inline void inverse(int *v, int step, int is_second)
{
    const int z = (v[2 * step] + v[6 * step]) * 4433;
    const int a = z - v[6 * step] * 15137, b = z + v[2 * step] * 6270;
    const int sum = (v[0] + v[4 * step]) * 8192, difference = (v[0] - v[4 * step]) * 8192;
    int d0 = v[7 * step], d1 = v[5 * step], d2 = v[3 * step], d3 = v[step];
    odd_part(d0, d1, d2, d3);
    const int bits = is_second ? 18 : 11;
    v[0] = descaled(sum + b + d3, bits);
    v[7 * step] = descaled(sum + b - d3, bits);
    v[step] = descaled(difference + a + d2, bits);
    v[6 * step] = descaled(difference + a - d2, bits);
    v[2 * step] = descaled(difference - a + d1, bits);
    v[5 * step] = descaled(difference - a - d1, bits);
    v[3 * step] = descaled(sum - b + d0, bits);
    v[4 * step] = descaled(sum - b - d0, bits);
}

__device__ static inline int quantised(int value, int step)
{
    const int size = ((value < 0 ? -value : value) + step * 4) / (step * 8);
    return (value < 0 ? -size : size) * step;
}

// An image's planes of Y, Cb and Cr as JPEG codes them, filled up to whole blocks by repeating the last sample.
// Threads: x over the width and y over the height in whole blocks, z over the three planes.
extern "C" __global__ void jpeg_samples(const byte *image, byte *planes, int width, int height, int bgr)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    const int number = blockIdx.z * blockDim.z + threadIdx.z;
    if (number > 2)
        return;
    const Component size = component(number, width, height);
    if (x >= size.across * 8 || y >= size.down * 8)
        return;
    // Chroma's pixels are repeated before they are averaged across, its samples are down.
    const int column = number || x < width ? x : width - 1;
    const int row = y < size.height ? y : size.height - 1;
    planes[size.at + y * size.across * 8 + x] = (byte)sampled(image, width, height, number, column, row, bgr);
}

// What quantisation makes of those planes, in place: through the DCT, into whole steps, and back.
// `quantisers`: 64 steps for luma, then 64 for chroma, row by row.
// Threads: x over the blocks of 8 x 8 of all planes.
extern "C" __global__ void jpeg_blocks(byte *planes, const int *quantisers, int width, int height)
{
    int block = blockIdx.x * blockDim.x + threadIdx.x;
    int number = 0;
    Component size = component(0, width, height);
    while (block >= size.across * size.down) {
        block -= size.across * size.down;
        if (++number > 2)
            return;
        size = component(number, width, height);
    }
    const int line = size.across * 8;
    byte *own = planes + size.at + block / size.across * 8 * line + block % size.across * 8;
    const int *steps = quantisers + (number ? 64 : 0);
    int values[64];
#pragma unroll
    for (int place = 0; place < 64; place++)
        values[place] = own[place / 8 * line + place % 8] - 128;
#pragma unroll
    for (int row = 0; row < 8; row++)
        forward(values + row * 8, 1, 0);
#pragma unroll
    for (int column = 0; column < 8; column++)
        forward(values + column, 8, 1);
#pragma unroll
    for (int place = 0; place < 64; place++)
        values[place] = quantised(values[place], steps[place]);
#pragma unroll
    for (int column = 0; column < 8; column++)
        inverse(values + column, 8, 0);
#pragma unroll
    for (int row = 0; row < 8; row++)
        inverse(values + row * 8, 1, 1);
#pragma unroll
    for (int place = 0; place < 64; place++)
        own[place / 8 * line + place % 8] = (byte)clipped(values[place] + 128, 255);
}

// Three quarters of a row of chroma and a quarter of its neighbour.
__device__ static inline int near_rows(const byte *plane, int line, int row, int other, int x)
{
    return 3 * plane[row * line + x] + plane[other * line + x];
}

// Chroma at a pixel: triangle interpolation, or for 4 pixels a line and less the nearest sample.
__device__ static inline int upsampled(const byte *planes, const Component &size, int x, int y)
{
    const byte *plane = planes + size.at;
    const int line = size.across * 8, column = x / 2, row = y / 2;
    if (size.width <= 2)
        return plane[row * line + column];
    const int other = clipped(y & 1 ? row + 1 : row - 1, size.height - 1);
    const int beside = clipped(x & 1 ? column + 1 : column - 1, size.width - 1);
    const int here = near_rows(plane, line, row, other, column);
    return (3 * here + near_rows(plane, line, row, other, beside) + (x & 1 ? 7 : 8)) >> 4;
}

// Back to an image as libjpeg decodes it, or to a part of it: shown_height x shown_width x 3 from (left, top) on.
// Threads: x over shown_width, y over shown_height.
extern "C" __global__ void jpeg_colours(const byte *planes, byte *image, int width, int height, int left, int top,
                                        int shown_width, int shown_height, int bgr)
{
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    const int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (column >= shown_width || row >= shown_height)
        return;
    const int x = column + left, y = row + top;
    const int luma = planes[y * component(0, width, height).across * 8 + x];
    const int cb = upsampled(planes, component(1, width, height), x, y) - 128;
    const int cr = upsampled(planes, component(2, width, height), x, y) - 128;
    byte *to = image + ((long long)row * shown_width + column) * 3;
    to[bgr ? 2 : 0] = (byte)clipped(luma + ((91881 * cr + 32768) >> 16), 255);
    to[1] = (byte)clipped(luma + ((-22554 * cb - 46802 * cr + 32768) >> 16), 255);
    to[bgr ? 0 : 2] = (byte)clipped(luma + ((116130 * cb + 32768) >> 16), 255);
}
