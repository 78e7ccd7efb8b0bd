/* A stand-in for libnvidia-ml.so.1: cards that are not there, with MIG's rules, shared by all processes.

   Everything lies in one folder: $CLOVER_FAKE_NVML, or the one that this library lies in.
     cards       which cards there are, and their MIG profiles (written by fake_nvml/folder.py)
     state.bin   the slices that exist now; survives the processes, as those of a card do
     faults      one a line: FUNCTION|* CODE|DIE_BEFORE|DIE_AFTER [gpu=N] [skip=N] [times=N]
     load_w      one a line: GPU WATTS, drawn on top of idle power
     calls.log   one line a call that changes or tries to change slices: pid function gpu arguments result

   Signatures, structures and codes are those of NVIDIA's public nvml.h; behaviour is as documented there. */
#include "state.h"

/* --- library and system --- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&mutex);
    int result = refs ? OK : open_folder();
    if (result) close_folder();
    else refs++;
    pthread_mutex_unlock(&mutex);
    return result;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) {
    pthread_mutex_lock(&mutex);
    int result = refs ? OK : UNINITIALIZED;
    if (refs && !--refs) close_folder();
    pthread_mutex_unlock(&mutex);
    return result;
}
const char *nvmlErrorString(int code) {
    switch (code) {
        case OK: return "The operation was successful";
        case INVALID_ARGUMENT: return "Invalid argument";
        case NOT_SUPPORTED: return "Not Supported";
        case NO_PERMISSION: return "Insufficient Permissions";
        case NOT_FOUND: return "Not Found";
        case GPU_IS_LOST: return "GPU is lost";
        case RESET_REQUIRED: return "GPU requires reset";
        case IN_USE: return "In use by another client";
        case INSUFFICIENT_RESOURCES: return "Insufficient Resources";
        case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
        default: return "Unknown Error";
    }
}
static int copy(char *out, unsigned size, const char *text) {
    if (!out) return INVALID_ARGUMENT;
    return snprintf(out, size, "%s", text) < (int)size ? OK : INSUFFICIENT_SIZE;
}
int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    ENTER(-1);
    LEAVE(copy(out, size, "clover-fake-1"));
}
int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    ENTER(-1);
    LEAVE(copy(out, size, "clover-fake-1"));
}
int nvmlSystemGetCudaDriverVersion_v2(int *out) {
    ENTER(-1);
    *out = 0;
    LEAVE(OK);
}

/* --- devices --- */

int nvmlDeviceGetCount_v2(unsigned *out) {
    ENTER(-1);
    *out = (unsigned)count;
    LEAVE(OK);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    ENTER((int)index);
    if ((int)index >= count) LEAVE(INVALID_ARGUMENT);
    *out = handle(DEVICE, index, 0, 0, 0);
    LEAVE(OK);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
    ENTER(-1);
    for (int g = 0; g < count; g++)
        if (!strcmp(cards[g].uuid, uuid)) {
            *out = handle(DEVICE, (unsigned)g, 0, 0, 0);
            LEAVE(OK);
        }
    LEAVE(NOT_FOUND);
}
int nvmlDeviceGetIndex(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    *out = (unsigned)gpu_of(h);
    LEAVE(OK);
}
int nvmlDeviceGetName(void *h, char *out, unsigned size) {
    ENTER(gpu_of(h));
    LEAVE(gpu_of(h) < count ? copy(out, size, cards[gpu_of(h)].name) : INVALID_ARGUMENT);
}
int nvmlDeviceGetUUID(void *h, char *out, unsigned size) {
    ENTER(gpu_of(h));
    if (device(h)) LEAVE(copy(out, size, cards[gpu_of(h)].uuid));
    Ci *ci = ci_of(h, MIG_DEVICE);
    LEAVE(ci ? copy(out, size, ci->uuid) : INVALID_ARGUMENT);
}
int nvmlDeviceGetMemoryInfo(void *h, unsigned long long out[3]) { /* total, free, used */
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    out[0] = out[1] = (unsigned long long)cards[gpu_of(h)].memory_mib << 20;
    out[2] = 0;
    LEAVE(OK);
}
typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} MemoryV2;
int nvmlDeviceGetMemoryInfo_v2(void *h, MemoryV2 *out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    out->total = out->free = (unsigned long long)cards[gpu_of(h)].memory_mib << 20;
    out->reserved = out->used = 0;
    LEAVE(OK);
}
int nvmlDeviceGetUtilizationRates(void *h, unsigned out[2]) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    if (gpu_state(gpu_of(h))->mig) LEAVE(NOT_SUPPORTED); /* as on a card in MIG mode */
    out[0] = out[1] = 0;
    LEAVE(OK);
}
int nvmlDeviceGetPowerUsage(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    *out = power_mw(gpu_of(h));
    LEAVE(OK);
}
int nvmlDeviceGetEnforcedPowerLimit(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    *out = cards[gpu_of(h)].limit_mw;
    LEAVE(OK);
}
int nvmlDeviceGetPowerManagementLimit(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    *out = cards[gpu_of(h)].limit_mw;
    LEAVE(OK);
}
/* NVML_COMPUTEMODE_DEFAULT: several processes may share the card */
int nvmlDeviceGetComputeMode(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    *out = 0;
    LEAVE(OK);
}
int nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    advance(gpu_of(h));
    *out = (unsigned long long)state->gpus[gpu_of(h)].energy_mj;
    LEAVE(OK);
}

/* --- MIG: mode and profiles --- */

int nvmlDeviceGetMigMode(void *h, unsigned *current, unsigned *pending) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    *current = *pending = gpu_state(gpu_of(h))->mig;
    LEAVE(OK);
}
typedef struct {
    unsigned id, p2p, slices, instances, sms, copy, dec, enc, jpeg, ofa;
    unsigned long long memory_mb;
} GiProfileInfo;
typedef struct {
    unsigned version, id, p2p, slices, instances, sms, copy, dec, enc, jpeg, ofa;
    unsigned long long memory_mb;
    char name[96];
} GiProfileInfoV2;
_Static_assert(sizeof(GiProfileInfoV2) == 0x98, "as nvml.h has it");

int nvmlDeviceGetGpuInstanceProfileInfo(void *h, unsigned slot, GiProfileInfo *out) {
    ENTER(gpu_of(h));
    if (!device(h) || slot >= PROFILES) LEAVE(INVALID_ARGUMENT);
    const Profile *p = &cards[gpu_of(h)].profiles[slot];
    if (!p->known || !gpu_state(gpu_of(h))->mig) LEAVE(NOT_SUPPORTED);
    *out = (GiProfileInfo){p->id, 0, p->slices, p->most, p->sms, 1, 0, 0, p->media, p->media, p->memory_mib};
    LEAVE(OK);
}
int nvmlDeviceGetGpuInstanceProfileInfoV(void *h, unsigned slot, GiProfileInfoV2 *out) {
    ENTER(gpu_of(h));
    if (!device(h) || slot >= PROFILES) LEAVE(INVALID_ARGUMENT);
    if (out->version != 0x02000098) LEAVE(ARGUMENT_VERSION_MISMATCH);
    const Profile *p = &cards[gpu_of(h)].profiles[slot];
    if (!p->known || !gpu_state(gpu_of(h))->mig) LEAVE(NOT_SUPPORTED);
    *out = (GiProfileInfoV2){out->version, p->id,         0, p->slices, p->most, p->sms, 1, 0, 0, p->media,
                             p->media,     p->memory_mib, ""};
    snprintf(out->name, sizeof out->name, "MIG %s", p->name);
    LEAVE(OK);
}
typedef struct {
    unsigned start, size;
} Place;
int nvmlDeviceGetGpuInstancePossiblePlacements_v2(void *h, unsigned id, Place *out, unsigned *number) {
    ENTER(gpu_of(h));
    int result = mig_ready(h);
    if (result) LEAVE(result);
    const Profile *p = profile_of(gpu_of(h), id);
    if (!p || !number) LEAVE(INVALID_ARGUMENT);
    for (unsigned i = 0; out && i < p->count; i++) out[i] = (Place){p->starts[i], p->size};
    *number = p->count;
    LEAVE(OK);
}

/* Whether a GPU instance fits beside the others: places, memory slices, compute slices, media engines. */
static int room_for(int gpu, const Profile *p, unsigned start) {
    unsigned compute = p->slices, media = p->media, valid = 0;
    for (unsigned i = 0; i < p->count; i++) valid |= p->starts[i] == start;
    if (!valid || start + p->size > MEMORY) return INVALID_ARGUMENT;
    for (int g = 0; g < GIS; g++) {
        const Gi *other = &state->gpus[gpu].gis[g];
        if (!other->used) continue;
        const Profile *theirs = &cards[gpu].profiles[other->profile];
        if (start < other->start + other->size && other->start < start + p->size)
            return INSUFFICIENT_RESOURCES;
        compute += theirs->slices;
        media += theirs->media;
    }
    return compute > COMPUTE || media > 1 ? INSUFFICIENT_RESOURCES : OK;
}
int nvmlDeviceGetGpuInstanceRemainingCapacity(void *h, unsigned id, unsigned *out) {
    ENTER(gpu_of(h));
    int result = mig_ready(h);
    if (result) LEAVE(result);
    const Profile *p = profile_of(gpu_of(h), id);
    if (!p) LEAVE(INVALID_ARGUMENT);
    *out = 0;
    for (unsigned i = 0; i < p->count; i++) *out += room_for(gpu_of(h), p, p->starts[i]) == OK;
    if (*out > p->most) *out = p->most;
    LEAVE(OK);
}

/* --- MIG: GPU instances --- */

int nvmlDeviceCreateGpuInstanceWithPlacement(void *h, unsigned id, const Place *place, void **out) {
    int gpu = gpu_of(h);
    CHANGE(gpu, "profile=%u start=%u size=%u", id, place->start, place->size);
    int result = mig_ready(h);
    Profile *p = result ? NULL : profile_of(gpu, id);
    if (!result) result = p && p->size == place->size ? room_for(gpu, p, place->start) : INVALID_ARGUMENT;
    for (unsigned g = 0; !result && g < GIS; g++) {
        Gi *gi = &state->gpus[gpu].gis[g];
        if (gi->used) continue;
        unsigned generation = gi->generation + 1;
        *gi = (Gi){1, generation, (unsigned)(p - cards[gpu].profiles), place->start, place->size, {{0}}};
        *out = handle(GPU_INSTANCE, (unsigned)gpu, g, 0, generation);
        snprintf(arguments, sizeof arguments, "profile=%u start=%u size=%u gi=%u", id, place->start,
                 place->size, g + 1);
        CHANGED(gpu, create_ms, OK);
    }
    CHANGED(gpu, 0, result ? result : INSUFFICIENT_RESOURCES);
}
int nvmlGpuInstanceDestroy(void *h) {
    int gpu = gpu_of(h);
    CHANGE(gpu, "gi=%u", gi_number(h) + 1);
    Gi *gi = gi_of(h);
    int result = gi ? root ? OK : NO_PERMISSION : INVALID_ARGUMENT;
    for (int c = 0; !result && c < CIS; c++)
        if (gi->cis[c].used) result = IN_USE;
    if (!result) gi->used = 0;
    CHANGED(gpu, destroy_ms, result);
}
int nvmlDeviceGetGpuInstances(void *h, unsigned id, void **out, unsigned *number) {
    ENTER(gpu_of(h));
    int result = mig_ready(h), gpu = gpu_of(h);
    if (result) LEAVE(result);
    Profile *p = profile_of(gpu, id);
    if (!p) LEAVE(INVALID_ARGUMENT);
    *number = 0;
    for (unsigned g = 0; g < GIS; g++) {
        const Gi *gi = &state->gpus[gpu].gis[g];
        if (gi->used && &cards[gpu].profiles[gi->profile] == p)
            out[(*number)++] = handle(GPU_INSTANCE, (unsigned)gpu, g, 0, gi->generation);
    }
    LEAVE(OK);
}
int nvmlDeviceGetGpuInstanceById(void *h, unsigned id, void **out) {
    ENTER(gpu_of(h));
    int result = mig_ready(h);
    if (result) LEAVE(result);
    if (id < 1 || id > GIS || !state->gpus[gpu_of(h)].gis[id - 1].used) LEAVE(NOT_FOUND);
    *out =
        handle(GPU_INSTANCE, (unsigned)gpu_of(h), id - 1, 0, state->gpus[gpu_of(h)].gis[id - 1].generation);
    LEAVE(OK);
}
typedef struct {
    void *device;
    unsigned id, profile;
    Place place;
} GiInfo;
int nvmlGpuInstanceGetInfo(void *h, GiInfo *out) {
    ENTER(gpu_of(h));
    const Gi *gi = gi_of(h);
    if (!gi) LEAVE(INVALID_ARGUMENT);
    *out = (GiInfo){handle(DEVICE, (unsigned)gpu_of(h), 0, 0, 0),
                    gi_number(h) + 1,
                    cards[gpu_of(h)].profiles[gi->profile].id,
                    {gi->start, gi->size}};
    LEAVE(OK);
}

/* --- MIG: compute instances; a profile's id is its slot, as on real cards --- */

static const unsigned CI_SLICES[] = {1, 2, 3, 4, 7};
typedef struct {
    unsigned id, slices, instances, sms, copy, dec, enc, jpeg, ofa;
} CiProfileInfo;
typedef struct {
    unsigned version, id, slices, instances, sms, copy, dec, enc, jpeg, ofa;
    char name[96];
} CiProfileInfoV2;
_Static_assert(sizeof(CiProfileInfoV2) == 0x88, "as nvml.h has it");

static int ci_profile(void *h, unsigned slot, unsigned engine, CiProfileInfo *out) {
    const Gi *gi = gi_of(h);
    if (!gi || engine) return INVALID_ARGUMENT;
    const Profile *p = &cards[gpu_of(h)].profiles[gi->profile];
    if (slot >= sizeof CI_SLICES / sizeof *CI_SLICES || CI_SLICES[slot] > p->slices) return NOT_SUPPORTED;
    unsigned slices = CI_SLICES[slot];
    *out = (CiProfileInfo){slot, slices, p->slices / slices, p->sms * slices / p->slices, 1, 0, 0, 0, 0};
    return OK;
}
int nvmlGpuInstanceGetComputeInstanceProfileInfo(void *h, unsigned slot, unsigned engine,
                                                 CiProfileInfo *out) {
    ENTER(gpu_of(h));
    LEAVE(ci_profile(h, slot, engine, out));
}
int nvmlGpuInstanceGetComputeInstanceProfileInfoV(void *h, unsigned slot, unsigned engine,
                                                  CiProfileInfoV2 *out) {
    ENTER(gpu_of(h));
    if (out->version != 0x02000088) LEAVE(ARGUMENT_VERSION_MISMATCH);
    CiProfileInfo i;
    int result = ci_profile(h, slot, engine, &i);
    if (result) LEAVE(result);
    *out = (CiProfileInfoV2){out->version, i.id, i.slices, i.instances, i.sms, 1, 0, 0, 0, 0, ""};
    snprintf(out->name, sizeof out->name, "MIG %uc", i.slices);
    LEAVE(OK);
}
int nvmlGpuInstanceCreateComputeInstance(void *h, unsigned id, void **out) {
    int gpu = gpu_of(h);
    CHANGE(gpu, "gi=%u profile=%u", gi_number(h) + 1, id);
    Gi *gi = gi_of(h);
    CiProfileInfo info;
    int result = gi ? root ? ci_profile(h, id, 0, &info) : NO_PERMISSION : INVALID_ARGUMENT;
    unsigned begin = 0;
    for (int c = 0; !result && c < CIS; c++) begin += gi->cis[c].used ? gi->cis[c].slices : 0;
    if (!result && begin + info.slices > cards[gpu].profiles[gi->profile].slices)
        result = INSUFFICIENT_RESOURCES;
    for (unsigned c = 0; !result && c < CIS; c++) {
        Ci *ci = &gi->cis[c];
        if (ci->used) continue;
        advance(gpu);
        GpuState *card = gpu_state(gpu);
        unsigned generation = card->serial = card->serial + 1;
        *ci = (Ci){1, generation, info.slices, begin, ""};
        snprintf(ci->uuid, sizeof ci->uuid, "MIG-c10efa4e-%04x-4000-8000-%012x", (unsigned)gpu, generation);
        *out = handle(COMPUTE_INSTANCE, (unsigned)gpu, gi_number(h), c, generation);
        snprintf(arguments, sizeof arguments, "gi=%u profile=%u ci=%u", gi_number(h) + 1, id, c);
        CHANGED(gpu, 0, OK);
    }
    CHANGED(gpu, 0, result ? result : INSUFFICIENT_RESOURCES);
}
int nvmlComputeInstanceDestroy(void *h) {
    int gpu = gpu_of(h);
    CHANGE(gpu, "gi=%u ci=%u", gi_number(h) + 1, ci_number(h));
    Ci *ci = ci_of(h, COMPUTE_INSTANCE);
    int result = ci ? root ? OK : NO_PERMISSION : INVALID_ARGUMENT;
    if (!result && used_by_a_process(ci->uuid)) result = IN_USE;
    if (!result) {
        advance(gpu);
        ci->used = 0;
    }
    CHANGED(gpu, 0, result);
}
int nvmlGpuInstanceGetComputeInstances(void *h, unsigned id, void **out, unsigned *number) {
    ENTER(gpu_of(h));
    const Gi *gi = gi_of(h);
    if (!gi || id >= sizeof CI_SLICES / sizeof *CI_SLICES) LEAVE(INVALID_ARGUMENT);
    *number = 0;
    for (unsigned c = 0; c < CIS; c++)
        if (gi->cis[c].used && gi->cis[c].slices == CI_SLICES[id])
            out[(*number)++] =
                handle(COMPUTE_INSTANCE, (unsigned)gpu_of(h), gi_number(h), c, gi->cis[c].generation);
    LEAVE(OK);
}
int nvmlGpuInstanceGetComputeInstanceById(void *h, unsigned id, void **out) {
    ENTER(gpu_of(h));
    const Gi *gi = gi_of(h);
    if (!gi) LEAVE(INVALID_ARGUMENT);
    if (id >= CIS || !gi->cis[id].used) LEAVE(NOT_FOUND);
    *out = handle(COMPUTE_INSTANCE, (unsigned)gpu_of(h), gi_number(h), id, gi->cis[id].generation);
    LEAVE(OK);
}
typedef struct {
    void *device, *gi;
    unsigned id, profile;
    Place place;
} CiInfo;
int nvmlComputeInstanceGetInfo_v2(void *h, CiInfo *out) {
    ENTER(gpu_of(h));
    const Ci *ci = ci_of(h, COMPUTE_INSTANCE);
    if (!ci) LEAVE(INVALID_ARGUMENT);
    unsigned gpu = (unsigned)gpu_of(h), slot = 0;
    while (CI_SLICES[slot] != ci->slices) slot++;
    *out = (CiInfo){handle(DEVICE, gpu, 0, 0, 0),
                    handle(GPU_INSTANCE, gpu, gi_number(h), 0, state->gpus[gpu].gis[gi_number(h)].generation),
                    ci_number(h),
                    slot,
                    {ci->start, ci->slices}};
    LEAVE(OK);
}

/* --- MIG devices, as CUDA sees them --- */

int nvmlDeviceIsMigDeviceHandle(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    *out = kind_of(h) == MIG_DEVICE;
    LEAVE(OK);
}
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    *out = COMPUTE;
    LEAVE(OK);
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned index, void **out) {
    ENTER(gpu_of(h));
    if (!device(h)) LEAVE(INVALID_ARGUMENT);
    if (!gpu_state(gpu_of(h))->mig) LEAVE(NOT_SUPPORTED);
    for (unsigned g = 0, seen = 0; g < GIS; g++)
        for (unsigned c = 0; c < CIS; c++) {
            const Gi *gi = &state->gpus[gpu_of(h)].gis[g];
            if (!gi->used || !gi->cis[c].used || seen++ != index) continue;
            *out = handle(MIG_DEVICE, (unsigned)gpu_of(h), g, c, gi->cis[c].generation);
            LEAVE(OK);
        }
    LEAVE(NOT_FOUND);
}
int nvmlDeviceGetGpuInstanceId(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    if (!ci_of(h, MIG_DEVICE)) LEAVE(INVALID_ARGUMENT);
    *out = gi_number(h) + 1;
    LEAVE(OK);
}
int nvmlDeviceGetComputeInstanceId(void *h, unsigned *out) {
    ENTER(gpu_of(h));
    if (!ci_of(h, MIG_DEVICE)) LEAVE(INVALID_ARGUMENT);
    *out = ci_number(h);
    LEAVE(OK);
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *h, void **out) {
    ENTER(gpu_of(h));
    if (!ci_of(h, MIG_DEVICE)) LEAVE(INVALID_ARGUMENT);
    *out = handle(DEVICE, (unsigned)gpu_of(h), 0, 0, 0);
    LEAVE(OK);
}
