/*
 * A stand-in for libnvidia-ml.so.1 that reads a make-believe GPU host (sleepd/sim/ledger.py) instead of a driver.
 *
 * $SLEEPD_FAKE_NVML names the directory, which is read afresh at every call, under its lock:
 *
 *     gpus         one line "INDEX UUID TOTAL_BYTES" per GPU; then one "INDEX UUID TOTAL_BYTES PARENT" per MIG device of
 *                  the GPU with the index PARENT, which is in MIG mode by that
 *     INDEX.PID    the bytes that process PID holds on GPU INDEX; dead processes and zombies hold nothing
 *     nvml_error   optional: "CODE" makes every query return that code, "CODE FUNCTION" only that function, named with
 *                  or without its version ("nvmlDeviceGetMemoryInfo"). nvmlInit fails only when named: "nvmlInit".
 *
 * It has what pynvml needs to list GPUs, their memory and their processes. Structures, codes and the protocol of the
 * process lists (NVML_ERROR_INSUFFICIENT_SIZE with the needed count) are those of NVIDIA's nvml.h, release 13.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_MEMORY = 20,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_ERROR_UNKNOWN = 999,
};

enum { MAX_GPUS = 64, MAX_MIG_DEVICES = 7, MAX_HOLDINGS = 4096, UUID_SIZE = 96, IDLE_MILLIWATTS = 50000 };

#define NO_INSTANCE 0xFFFFFFFFu /* not a MIG instance */
#define MEMORY_V2 0x02000028u   /* sizeof(nvmlMemory_v2_t) | 2 << 24 */
#define NO_PARENT (-1)
#define EXPORT __attribute__((visibility("default")))

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t; /* the GPU's index + 1 */
typedef unsigned long long bytes_t;

typedef struct {
    bytes_t total, free, used;
} nvmlMemory_t;

typedef struct {
    unsigned version;
    bytes_t total, reserved, free, used;
} nvmlMemory_v2_t;

typedef struct { /* of the functions _v2 and _v3 alike */
    unsigned pid;
    bytes_t usedGpuMemory;
    unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

_Static_assert(sizeof(nvmlMemory_v2_t) == 0x28, "nvmlMemory_v2_t is not nvml.h's");
_Static_assert(sizeof(nvmlProcessInfo_t) == 24, "nvmlProcessInfo_t is not nvml.h's");

typedef struct {
    unsigned index;
    char uuid[UUID_SIZE];
    bytes_t total;
    int parent; /* NO_PARENT, or the index of the GPU that this is a MIG device of */
} gpu_t;

typedef struct {
    unsigned gpu, pid;
    bytes_t bytes;
} holding_t;

typedef struct {
    unsigned gpu_count, holding_count;
    gpu_t gpus[MAX_GPUS];
    holding_t holdings[MAX_HOLDINGS];
} host_t;

static atomic_int users;

/* ---- reading the ledger ---- */

static FILE *open_text(const char *directory, const char *name)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return NULL;
    return fopen(path, "re");
}

/* As the kernel says in /proc/PID/stat: "PID (NAME) STATE ...", where NAME may hold anything. */
static int is_running(unsigned pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *stat = fopen(path, "re");
    if (!stat) /* a /proc that hides other users' processes (hidepid) denies one that signals would reach */
        return kill((pid_t)pid, 0) != 0 && errno == EPERM;
    size_t length = fread(text, 1, sizeof text - 1, stat);
    fclose(stat);
    text[length] = '\0';
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' && end[2] != 'Z' && end[2] != 'X';
}

static nvmlReturn_t read_gpus(const char *directory, host_t *host)
{
    FILE *file = open_text(directory, "gpus");
    if (!file)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    nvmlReturn_t result = NVML_SUCCESS;
    char line[256];
    while (result == NVML_SUCCESS && fgets(line, sizeof line, file)) {
        gpu_t *gpu = &host->gpus[host->gpu_count];
        gpu->parent = NO_PARENT;
        if (host->gpu_count == MAX_GPUS ||
            sscanf(line, "%u %95s %llu %d", &gpu->index, gpu->uuid, &gpu->total, &gpu->parent) < 3)
            result = NVML_ERROR_UNKNOWN;
        else
            host->gpu_count++;
    }
    fclose(file);
    return result;
}

static nvmlReturn_t read_holding(const char *directory, const char *name, host_t *host)
{
    holding_t holding;
    int length = 0;
    if (sscanf(name, "%u.%u%n", &holding.gpu, &holding.pid, &length) != 2 || name[length])
        return NVML_SUCCESS; /* another file */
    if (!is_running(holding.pid))
        return NVML_SUCCESS;
    FILE *file = open_text(directory, name);
    if (!file)
        return NVML_ERROR_UNKNOWN;
    int fields = fscanf(file, "%llu", &holding.bytes);
    fclose(file);
    if (fields != 1 || host->holding_count == MAX_HOLDINGS)
        return NVML_ERROR_UNKNOWN;
    host->holdings[host->holding_count++] = holding;
    return NVML_SUCCESS;
}

static nvmlReturn_t read_holdings(const char *directory, host_t *host)
{
    DIR *entries = opendir(directory);
    if (!entries)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    nvmlReturn_t result = NVML_SUCCESS;
    for (struct dirent *entry; result == NVML_SUCCESS && (entry = readdir(entries));)
        result = read_holding(directory, entry->d_name, host);
    closedir(entries);
    return result;
}

/* The same file and the same kind of lock as the writers'; it ends with the descriptor. */
static int lock(const char *directory)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/lock", directory) >= (int)sizeof path)
        return -1;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor >= 0 && flock(descriptor, LOCK_SH) != 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

/* ---- faults asked for by a test ---- */

static int is_called(const char *function, const char *name)
{
    size_t length = strlen(name);
    return strncmp(function, name, length) == 0 &&
           (function[length] == '\0' || strncmp(function + length, "_v", 2) == 0);
}

/* The code to return from this function, or NVML_SUCCESS. */
static nvmlReturn_t injected(const char *directory, const char *function, int only_when_named)
{
    FILE *file = open_text(directory, "nvml_error");
    if (!file)
        return NVML_SUCCESS;
    int code = NVML_SUCCESS;
    char name[64] = "";
    int fields = fscanf(file, "%d %63s", &code, name);
    fclose(file);
    if (fields < 1)
        return NVML_SUCCESS;
    if (fields == 1)
        return only_when_named ? NVML_SUCCESS : code;
    return is_called(function, name) ? code : NVML_SUCCESS;
}

/* ---- what every query begins with ---- */

static nvmlReturn_t begin(const char *function)
{
    const char *directory = getenv("SLEEPD_FAKE_NVML");
    if (!users)
        return NVML_ERROR_UNINITIALIZED;
    return directory ? injected(directory, function, 0) : NVML_ERROR_DRIVER_NOT_LOADED;
}

/* Success leaves a host in *found, for the caller to free(). */
static nvmlReturn_t look(const char *function, host_t **found)
{
    nvmlReturn_t result = begin(function);
    if (result != NVML_SUCCESS)
        return result;
    const char *directory = getenv("SLEEPD_FAKE_NVML");
    host_t *host = calloc(1, sizeof *host);
    if (!host)
        return NVML_ERROR_MEMORY;
    int descriptor = lock(directory);
    result = descriptor < 0 ? NVML_ERROR_NO_PERMISSION : read_gpus(directory, host);
    if (result == NVML_SUCCESS)
        result = read_holdings(directory, host);
    if (descriptor >= 0)
        close(descriptor);
    if (result == NVML_SUCCESS)
        *found = host;
    else
        free(host);
    return result;
}

static const gpu_t *find_gpu(const host_t *host, nvmlDevice_t device)
{
    for (unsigned n = 0; n < host->gpu_count; n++)
        if (host->gpus[n].index + 1 == (uintptr_t)device)
            return &host->gpus[n];
    return NULL;
}

/* One GPU of the host. A GPU that was there when its handle was given out and is not now has fallen off the bus. */
static nvmlReturn_t look_at(const char *function, nvmlDevice_t device, host_t **host, const gpu_t **gpu)
{
    nvmlReturn_t result = look(function, host);
    if (result != NVML_SUCCESS)
        return result;
    *gpu = find_gpu(*host, device);
    if (*gpu)
        return NVML_SUCCESS;
    free(*host);
    return device ? NVML_ERROR_GPU_IS_LOST : NVML_ERROR_INVALID_ARGUMENT;
}

/* The MIG device of this number on that GPU, or NULL. */
static const gpu_t *find_mig_device(const host_t *host, const gpu_t *parent, unsigned number)
{
    for (unsigned n = 0; n < host->gpu_count; n++)
        if (host->gpus[n].parent == (int)parent->index && number-- == 0)
            return &host->gpus[n];
    return NULL;
}

static int is_in_mig_mode(const host_t *host, const gpu_t *gpu)
{
    return find_mig_device(host, gpu, 0) != NULL;
}

static nvmlReturn_t give_text(const char *text, char *buffer, unsigned length)
{
    if (!buffer)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return NVML_SUCCESS;
}

static nvmlReturn_t measure(const char *function, nvmlDevice_t device, nvmlMemory_t *memory)
{
    host_t *host;
    const gpu_t *gpu;
    nvmlReturn_t result = look_at(function, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (is_in_mig_mode(host, gpu)) { /* the sum over all MIG devices is told to the privileged only */
        free(host);
        return NVML_ERROR_NO_PERMISSION;
    }
    memory->total = gpu->total;
    memory->used = 0;
    for (unsigned n = 0; n < host->holding_count; n++)
        if (host->holdings[n].gpu == gpu->index)
            memory->used += host->holdings[n].bytes;
    memory->free = memory->used < memory->total ? memory->total - memory->used : 0;
    free(host);
    return NVML_SUCCESS;
}

/* The count is always what there is; the list is written only where it fits. */
static nvmlReturn_t list_processes(const char *function, nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *infos)
{
    host_t *host;
    const gpu_t *gpu;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look_at(function, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    unsigned room = infos ? *count : 0, found = 0;
    for (unsigned n = 0; n < host->holding_count; n++) {
        const holding_t *holding = &host->holdings[n];
        if (holding->gpu != gpu->index)
            continue;
        if (found < room)
            infos[found] = (nvmlProcessInfo_t){holding->pid, holding->bytes, NO_INSTANCE, NO_INSTANCE};
        found++;
    }
    free(host);
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* ---- the library ---- */

static nvmlReturn_t initialize(void)
{
    const char *directory = getenv("SLEEPD_FAKE_NVML");
    if (!directory)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    nvmlReturn_t result = injected(directory, "nvmlInit", 1);
    if (result != NVML_SUCCESS)
        return result;
    FILE *gpus = open_text(directory, "gpus");
    if (!gpus)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    fclose(gpus);
    users++;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlInit_v2(void)
{
    return initialize();
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags; /* they only say that having no GPU is no error, which it never is here */
    return initialize();
}

EXPORT nvmlReturn_t nvmlShutdown(void)
{
    if (!users)
        return NVML_ERROR_UNINITIALIZED;
    users--;
    return NVML_SUCCESS;
}

EXPORT const char *nvmlErrorString(nvmlReturn_t result)
{
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_MEMORY: return "Insufficient Memory";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    nvmlReturn_t result = begin(__func__);
    return result == NVML_SUCCESS ? give_text("make-believe", version, length) : result;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    host_t *host;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look(__func__, &host);
    if (result != NVML_SUCCESS)
        return result;
    *count = 0;
    for (unsigned n = 0; n < host->gpu_count; n++)
        *count += host->gpus[n].parent == NO_PARENT;
    free(host);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    host_t *host;
    if (!device)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look(__func__, &host);
    if (result != NVML_SUCCESS)
        return result;
    nvmlDevice_t handle = (nvmlDevice_t)((uintptr_t)index + 1);
    const gpu_t *gpu = find_gpu(host, handle);
    if (gpu && gpu->parent == NO_PARENT)
        *device = handle;
    else
        result = NVML_ERROR_INVALID_ARGUMENT;
    free(host);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    host_t *host;
    if (!uuid || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look(__func__, &host);
    if (result != NVML_SUCCESS)
        return result;
    result = NVML_ERROR_NOT_FOUND;
    for (unsigned n = 0; n < host->gpu_count; n++)
        if (strcmp(host->gpus[n].uuid, uuid) == 0) {
            *device = (nvmlDevice_t)((uintptr_t)host->gpus[n].index + 1);
            result = NVML_SUCCESS;
        }
    free(host);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    host_t *host;
    const gpu_t *gpu;
    nvmlReturn_t result = look_at(__func__, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    result = give_text(gpu->uuid, uuid, length);
    free(host);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index)
{
    host_t *host;
    const gpu_t *gpu;
    if (!index)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look_at(__func__, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    *index = gpu->index;
    free(host);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    host_t *host;
    const gpu_t *gpu;
    nvmlReturn_t result = look_at(__func__, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    free(host);
    return give_text("Make-believe GPU", name, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    host_t *host;
    const gpu_t *gpu;
    if (!current || !pending)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look_at(__func__, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (is_in_mig_mode(host, gpu))
        *current = *pending = 1;
    else
        result = NVML_ERROR_NOT_SUPPORTED; /* as GPUs without MIG answer */
    free(host);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    host_t *host;
    const gpu_t *gpu;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look_at(__func__, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    *count = is_in_mig_mode(host, gpu) ? MAX_MIG_DEVICES : 0;
    free(host);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *mig)
{
    host_t *host;
    const gpu_t *gpu;
    if (!mig)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look_at(__func__, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    const gpu_t *found = index < MAX_MIG_DEVICES ? find_mig_device(host, gpu, index) : NULL;
    if (found)
        *mig = (nvmlDevice_t)((uintptr_t)found->index + 1);
    else
        result = index < MAX_MIG_DEVICES ? NVML_ERROR_NOT_FOUND : NVML_ERROR_INVALID_ARGUMENT;
    free(host);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    return memory ? measure(__func__, device, memory) : NVML_ERROR_INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t measured;
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != MEMORY_V2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = measure(__func__, device, &measured);
    if (result == NVML_SUCCESS)
        *memory = (nvmlMemory_v2_t){MEMORY_V2, measured.total, 0, measured.free, measured.used};
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned *count,
        nvmlProcessInfo_t *infos)
{
    return list_processes(__func__, device, count, infos);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
        nvmlProcessInfo_t *infos)
{
    return list_processes(__func__, device, count, infos);
}

EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
        nvmlProcessInfo_t *infos)
{
    host_t *host;
    const gpu_t *gpu;
    (void)infos;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look_at(__func__, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    free(host);
    *count = 0; /* everybody in the ledger computes; nobody draws */
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts)
{
    host_t *host;
    const gpu_t *gpu;
    if (!milliwatts)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = look_at(__func__, device, &host, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    free(host);
    *milliwatts = IDLE_MILLIWATTS; /* a GPU on which nothing really computes idles */
    return NVML_SUCCESS;
}
