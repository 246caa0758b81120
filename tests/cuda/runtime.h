/* runtime.h: the part of the CUDA runtime and of cuBLAS that kernels' hosts use, declared anew with
   the same names and values. Included by sim.h. runtime.cpp says what is stricter here. */
#ifndef RUNTIME_H_INCLUDED
#define RUNTIME_H_INCLUDED

/* --- errors --------------------------------------------------------------- */

#define SIM_ERRORS(X)                                                              \
    X(cudaSuccess, 0, "no error")                                                  \
    X(cudaErrorInvalidValue, 1, "invalid argument")                                \
    X(cudaErrorMemoryAllocation, 2, "out of memory")                               \
    X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")          \
    X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for "  \
                                       "CUDA runtime version")                     \
    X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                \
    X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                       \
    X(cudaErrorNoKernelImageForDevice, 209, "no kernel image is available for "    \
                                            "execution on the device")             \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")              \
    X(cudaErrorNotReady, 600, "device not ready")                                  \
    X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")    \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                   \
    X(cudaErrorNotSupported, 801, "operation not supported")                       \
    X(cudaErrorStreamCaptureUnsupported, 900, "operation not permitted when "      \
                                              "stream is capturing")               \
    X(cudaErrorStreamCaptureInvalidated, 901, "operation failed due to a previous" \
                                              " error during capture")             \
    X(cudaErrorStreamCaptureImplicit, 906, "operation would make the legacy "      \
                                           "stream depend on a capturing one")     \
    X(cudaErrorUnknown, 999, "unknown error")

enum cudaError_t {
#define SIM_ENUM(name, value, text) name = value,
    SIM_ERRORS(SIM_ENUM)
#undef SIM_ENUM
};

cudaError_t cudaGetLastError();         // the last error of any call, which is then forgotten
cudaError_t cudaPeekAtLastError();
const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);

/* --- devices -------------------------------------------------------------- */

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock;
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin;
};

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value);
template <class F>
cudaError_t cudaFuncSetAttribute(F *function, cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute((const void *)function, attribute, value);
}

/* --- streams and events --------------------------------------------------- */

typedef struct cudaStream_st *cudaStream_t;
typedef struct cudaEvent_st *cudaEvent_t;
typedef struct cudaGraph_st *cudaGraph_t;
typedef struct cudaGraphExec_st *cudaGraphExec_t;
typedef struct cudaGraphNode_st *cudaGraphNode_t;

#define cudaStreamDefault 0x00u
#define cudaStreamNonBlocking 0x01u
#define cudaEventDefault 0x00u
#define cudaEventDisableTiming 0x02u

cudaError_t cudaStreamCreate(cudaStream_t *stream, SIM_WHERE);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags, SIM_WHERE);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0,
                                SIM_WHERE);
cudaError_t cudaEventCreate(cudaEvent_t *event, SIM_WHERE);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags, SIM_WHERE);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr, SIM_WHERE);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end);

/* --- memory --------------------------------------------------------------- */

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};

namespace sim {
cudaError_t device_malloc(void **p, size_t bytes, Where where);
cudaError_t pinned_malloc(void **p, size_t bytes, Where where);
} // namespace sim

template <class T> cudaError_t cudaMalloc(T **p, size_t bytes, SIM_WHERE)
{
    return sim::device_malloc((void **)p, bytes, where);
}
template <class T> cudaError_t cudaMallocHost(T **p, size_t bytes, SIM_WHERE)
{
    return sim::pinned_malloc((void **)p, bytes, where);
}
cudaError_t cudaFree(void *p, SIM_WHERE);
cudaError_t cudaFreeHost(void *p, SIM_WHERE);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, SIM_WHERE);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr, SIM_WHERE);
cudaError_t cudaMemset(void *to, int byte, size_t bytes, SIM_WHERE);
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream = nullptr,
                            SIM_WHERE);

/* --- graphs --------------------------------------------------------------- */

enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive,
    cudaStreamCaptureStatusInvalidated
};

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph, SIM_WHERE);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags = 0, SIM_WHERE);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream, SIM_WHERE);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

/* --- cuBLAS: column-major products ---------------------------------------- */

enum cublasStatus_t {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_ALLOC_FAILED = 3,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_EXECUTION_FAILED = 13
};
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C };
enum cublasMath_t {
    CUBLAS_DEFAULT_MATH = 0,
    CUBLAS_PEDANTIC_MATH = 2,
    CUBLAS_TF32_TENSOR_OP_MATH = 3
};
typedef struct cublasContext *cublasHandle_t;

cublasStatus_t cublasCreate(cublasHandle_t *handle, SIM_WHERE);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes, SIM_WHERE);
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                           int m, int n, int k, const float *alpha, const float *a, int lda,
                           const float *b, int ldb, const float *beta, float *c, int ldc,
                           SIM_WHERE);
cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a,
                                         cublasOperation_t op_b, int m, int n, int k,
                                         const float *alpha, const float *a, int lda,
                                         long long stride_a, const float *b, int ldb,
                                         long long stride_b, const float *beta, float *c, int ldc,
                                         long long stride_c, int batch, SIM_WHERE);
#endif
