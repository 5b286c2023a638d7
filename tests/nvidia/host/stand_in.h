// Stands in for CUDA's built-ins where kernels are compiled for the CPU: threads run one after the other.
#pragma once

#define __global__
#define __device__

struct Place
{
    unsigned x, y, z;
};

static thread_local Place threadIdx, blockIdx, blockDim, gridDim;

static Place place_of(const int *extent)
{
    return {(unsigned)extent[0], (unsigned)extent[1], (unsigned)extent[2]};
}

template <class Each> static void everywhere(Place extent, Place &here, Each each)
{
    for (here.z = 0; here.z < extent.z; here.z++)
        for (here.y = 0; here.y < extent.y; here.y++)
            for (here.x = 0; here.x < extent.x; here.x++)
                each();
}

template <class... Types> struct Arguments
{
    template <unsigned long... Numbers> struct Sequence
    {
    };

    template <unsigned long Count, unsigned long... Numbers> struct Counted : Counted<Count - 1, Count - 1, Numbers...>
    {
    };

    template <unsigned long... Numbers> struct Counted<0, Numbers...>
    {
        using Type = Sequence<Numbers...>;
    };

    // Whether the arguments have the sizes that the kernel's parameters have.
    static int fit(const int *sizes, int count)
    {
        const int wanted[] = {(int)sizeof(Types)...};
        if (count != (int)sizeof...(Types))
            return 0;
        for (int number = 0; number < count; number++)
            if (sizes[number] != wanted[number])
                return 0;
        return 1;
    }

    template <unsigned long... Numbers>
    static void call(void (*kernel)(Types...), void *const *values, Sequence<Numbers...>)
    {
        kernel(*(Types *)values[Numbers]...);
    }
};

// Runs a kernel as cuLaunchKernel would; 0 if the arguments do not fit it.
template <class... Types>
static int launched(void (*kernel)(Types...), const int *grid, const int *block, void *const *values, const int *sizes,
                    int count)
{
    using Own = Arguments<Types...>;
    if (!Own::fit(sizes, count))
        return 0;
    gridDim = place_of(grid);
    blockDim = place_of(block);
    everywhere(gridDim, blockIdx, [&] {
        everywhere(blockDim, threadIdx,
                   [&] { Own::call(kernel, values, typename Own::template Counted<sizeof...(Types)>::Type{}); });
    });
    return 1;
}
