/* NVIDIA's libcuda.so.1 and libnvrtc.so as far as vidmod calls them, in the memory of this process: what the real
   cuda-bindings are run over where there is no GPU, to see that they take what they are given. The one kernel that
   there is adds two bytes to each of its input. Not a GPU: all is done at once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
typedef unsigned long long A;
#define OUT(type, value) do { *(type *)out = (type)(value); return 0; } while (0)

static int live, captures, recorded;
static struct { unsigned char *from; float *to; int count; float offset; } work;

R cuInit(unsigned flags) { return (int)flags; }
R cuDriverGetVersion(int *out) { OUT(int, 13000); }
R cuDeviceGetCount(int *out) { OUT(int, 1); }
R cuDeviceGet(int *out, int number) { OUT(int, number); }
R cuDeviceGetName(char *out, int length, int device) { snprintf(out, length, "Stand-in %d", device); return 0; }
R cuDeviceTotalMem(size_t *out, int device) { (void)device; OUT(size_t, 1 << 30); }
R cuDeviceGetAttribute(int *out, int which, int device)
{
    (void)device; OUT(int, which == 75 ? 9 : which == 76 ? 0 : 132);
}
R cuDevicePrimaryCtxRetain(void **out, int device) { (void)device; ++live; OUT(A, 0xC000); }
R cuDevicePrimaryCtxRelease(int device) { --live; return device; }
R cuCtxPushCurrent(void *context) { ++live; return (A)context != 0xC000; }
R cuCtxPopCurrent(void **out) { --live; OUT(A, 0xC000); }
R cuCtxSynchronize(void) { return 0; }
R cuCtxSetCurrent(void *context) { return (A)context != 0xC000; }
R cuStreamCreate(void **out, unsigned flags) { ++live; return flags != 1 ? 1 : (*out = (void *)0x51, 0); }
R cuStreamDestroy(void *stream) { --live; return (A)stream != 0x51; }
R cuStreamSynchronize(void *stream) { return (A)stream != 0x51; }
R cuStreamWaitEvent(void *stream, void *event, unsigned flags)
{
    return (A)stream != 0x51 || (A)event != 0xE1 || flags;
}
R cuStreamBeginCapture(void *stream, int mode) { captures = 1; return (A)stream != 0x51 || mode != 1; }
R cuStreamEndCapture(void *stream, void **out) { captures = 0; ++live; *out = (void *)0x61; return (A)stream != 0x51; }
R cuEventCreate(void **out, unsigned flags) { ++live; *out = (void *)0xE1; return flags != 3; }
R cuEventDestroy(void *event) { --live; return (A)event != 0xE1; }
R cuEventRecord(void *event, void *stream) { return (A)event != 0xE1 || (A)stream != 0x51; }
R cuEventSynchronize(void *event) { return (A)event != 0xE1; }
R cuGraphInstantiateWithFlags(void **out, void *graph, A flags)
{
    ++live; *out = (void *)0x62; return (A)graph != 0x61 || flags;
}
R cuGraphDestroy(void *graph) { --live; return (A)graph != 0x61; }
R cuGraphExecDestroy(void *graph) { --live; return (A)graph != 0x62; }
R cuMemAlloc(A *out, size_t size) { ++live; OUT(A, malloc(size)); }
R cuMemFree(A address) { --live; free((void *)address); return 0; }
R cuMemHostAlloc(void **out, size_t size, unsigned flags) { ++live; *out = malloc(size); return flags; }
R cuMemFreeHost(void *address) { --live; free(address); return 0; }
R cuMemcpyHtoDAsync(A to, const void *from, size_t size, void *stream)
{
    memcpy((void *)to, from, size); return (A)stream != 0x51;
}
R cuMemcpyDtoHAsync(void *to, A from, size_t size, void *stream)
{
    memcpy(to, (void *)from, size); return (A)stream != 0x51;
}
R cuModuleLoadData(void **out, const void *image) { ++live; *out = (void *)0x71; return memcmp(image, "CODE", 4) != 0; }
R cuModuleUnload(void *module) { --live; return (A)module != 0x71; }
R cuModuleGetFunction(void **out, void *module, const char *name)
{
    *out = (void *)0x72; return (A)module != 0x71 || strcmp(name, "add") != 0;
}
R cuGetErrorName(R result, const char **out)
{
    *out = result == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return 0;
}
R cuGetErrorString(R result, const char **out) { *out = result == 1 ? "invalid argument" : 0; return 0; }

static void run(void)
{
    for (int index = 0; index < work.count; ++index)
        work.to[index] = work.from[index] + work.offset;
}

R cuGraphLaunch(void *graph, void *stream) { if (recorded) run(); return (A)graph != 0x62 || (A)stream != 0x51; }

R cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                 unsigned shared, void *stream, void **parameters, void **extra)
{
    if ((A)function != 0x72 || (A)stream != 0x51 || shared || extra || gx != 3 || gy * gz != 1 || bx != 64
        || by * bz != 1)
        return 1;
    work.from = *(unsigned char **)parameters[0];
    work.to = *(float **)parameters[1];
    work.count = *(int *)parameters[2];
    work.offset = *(float *)parameters[3];
    if (captures) recorded = 1; else run();
    return 0;
}

/* For the test: handles that were not freed. */
int stand_in_live(void) { return live; }

R cuGetProcAddress_v2(const char *symbol, void **out, int version, A flags, int *status)
{
    (void)version; (void)flags;
    *out = dlsym(RTLD_DEFAULT, symbol);
    if (!*out) {
        void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        *out = self ? dlsym(self, symbol) : NULL;
    }
    if (status) *status = *out ? 0 : 1;
    return *out ? 0 : 500;
}
R cuGetProcAddress(const char *symbol, void **out, int version, A flags)
{
    return cuGetProcAddress_v2(symbol, out, version, flags, 0);
}

R nvrtcCreateProgram(void **out, const char *source, const char *name, int headers, const char *const *texts,
                     const char *const *names)
{
    (void)texts; (void)names; ++live;
    *out = strdup(source);
    return strcmp(name, "vidmod.cu") != 0 || headers;
}
R nvrtcCompileProgram(void *program, int count, const char *const *options)
{
    if (count != 1 || strcmp(options[0], "--gpu-architecture=sm_90") != 0) return 5;
    return strstr(program, "__global__") ? 0 : 6;
}
R nvrtcGetProgramLogSize(void *program, size_t *out) { (void)program; OUT(size_t, 6); }
R nvrtcGetProgramLog(void *program, char *out) { (void)program; memcpy(out, "wrong", 6); return 0; }
R nvrtcGetCUBINSize(void *program, size_t *out) { (void)program; OUT(size_t, 5); }
R nvrtcGetCUBIN(void *program, char *out) { (void)program; memcpy(out, "CODE", 5); return 0; }
R nvrtcDestroyProgram(void **program) { --live; free(*program); *program = NULL; return 0; }
R nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return 0; }
const char *nvrtcGetErrorString(R result) { return result == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
