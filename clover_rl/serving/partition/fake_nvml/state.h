/* What the stand-in knows: its folder, cards, shared state, faults, log of calls. See fake_nvml.c. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
    RESET_REQUIRED = 16,
    IN_USE = 19,
    INSUFFICIENT_RESOURCES = 23,
    ARGUMENT_VERSION_MISMATCH = 25,
    UNKNOWN = 999
};
enum { GPUS = 16, PROFILES = 18, GIS = 8, CIS = 8, STARTS = 8, FAULTS = 64, MEMORY = 8, COMPUTE = 7 };
enum { DEVICE = 1, GPU_INSTANCE = 2, COMPUTE_INSTANCE = 3, MIG_DEVICE = 4 };
enum { DIE_BEFORE = -1, DIE_AFTER = -2 };

typedef struct {
    uint32_t used, generation, slices, start;
    char uuid[48];
} Ci;
typedef struct {
    uint32_t used, generation, profile, start, size;
    Ci cis[CIS];
} Gi;
typedef struct {
    Gi gis[GIS];
    double energy_mj, since_s;
    uint32_t serial, mig, set_up;
} GpuState;
typedef struct {
    GpuState gpus[GPUS];
    uint64_t faults_hash;
    uint32_t seen[FAULTS];
} State;
typedef struct {
    int known;
    unsigned id, slices, size, sms, memory_mib, media, most, count, starts[STARTS];
    char name[32];
} Profile;
typedef struct {
    char name[64], uuid[64];
    unsigned mig, parked_mw, idle_mw, limit_mw, memory_mib;
    Profile profiles[PROFILES];
} Card;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char folder[512];
static int refs, lock_fd = -1, count, root = 1;
static unsigned create_ms, destroy_ms;
static Card cards[GPUS];
static State *state;

/* --- the folder --- */

static void path_of(char *out, size_t size, const char *name) { snprintf(out, size, "%s/%s", folder, name); }

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int read_cards(void) {
    char path[600], line[512], text[128], starts[64];
    path_of(path, sizeof path, "cards");
    FILE *file = fopen(path, "r");
    if (!file) return DRIVER_NOT_LOADED;
    count = 0;
    root = 1;
    create_ms = destroy_ms = 0;
    memset(cards, 0, sizeof cards);
    while (fgets(line, sizeof line, file)) {
        Card *card = count ? &cards[count - 1] : NULL;
        unsigned slot;
        Profile p = {.known = 1};
        if (sscanf(line, "gpu %63s", text) == 1 && count < GPUS)
            snprintf(cards[count++].uuid, 64, "%.63s", text);
        else if (sscanf(line, "root %d", &root) == 1) continue;
        else if (sscanf(line, "create_ms %u", &create_ms) == 1) continue;
        else if (sscanf(line, "destroy_ms %u", &destroy_ms) == 1) continue;
        else if (!card) continue;
        else if (sscanf(line, "name %63[^\n]", text) == 1) snprintf(card->name, 64, "%.63s", text);
        else if (sscanf(line, "mig %u", &card->mig) == 1) continue;
        else if (sscanf(line, "power_mw %u %u %u", &card->parked_mw, &card->idle_mw, &card->limit_mw) == 3)
            continue;
        else if (sscanf(line, "memory_mib %u", &card->memory_mib) == 1) continue;
        else if (sscanf(line, "profile %u %u %u %u %u %u %u %31s %63s", &slot, &p.id, &p.slices, &p.size,
                        &p.sms, &p.memory_mib, &p.media, p.name, starts) == 9 &&
                 slot < PROFILES) {
            for (char *rest = starts, *word; p.count < STARTS && (word = strsep(&rest, ","));)
                p.starts[p.count++] = atoi(word);
            p.most = p.media ? 1 : p.count < COMPUTE / p.slices ? p.count : COMPUTE / p.slices;
            card->profiles[slot] = p;
        }
    }
    fclose(file);
    return OK;
}

static int open_folder(void) {
    const char *chosen = getenv("CLOVER_FAKE_NVML");
    char path[600];
    Dl_info self;
    if (chosen && *chosen) snprintf(folder, sizeof folder, "%s", chosen);
    else if (dladdr((void *)open_folder, &self) && self.dli_fname && strrchr(self.dli_fname, '/'))
        snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(self.dli_fname, '/') - self.dli_fname),
                 self.dli_fname);
    else return DRIVER_NOT_LOADED;
    int result = read_cards();
    if (result) return result;
    path_of(path, sizeof path, "state.bin");
    lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_fd < 0 || ftruncate(lock_fd, sizeof(State))) return DRIVER_NOT_LOADED;
    state = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, lock_fd, 0);
    if (state == MAP_FAILED) {
        state = NULL;
        return DRIVER_NOT_LOADED;
    }
    return OK;
}

static void close_folder(void) {
    if (state) munmap(state, sizeof(State));
    if (lock_fd >= 0) close(lock_fd);
    state = NULL;
    lock_fd = -1;
}

/* --- faults and the log --- */

static int code_of(const char *word) {
    static const struct {
        const char *word;
        int code;
    } words[] = {{"DIE_BEFORE", DIE_BEFORE},
                 {"DIE_AFTER", DIE_AFTER},
                 {"NOT_SUPPORTED", NOT_SUPPORTED},
                 {"NO_PERMISSION", NO_PERMISSION},
                 {"GPU_IS_LOST", GPU_IS_LOST},
                 {"RESET_REQUIRED", RESET_REQUIRED},
                 {"IN_USE", IN_USE},
                 {"INSUFFICIENT_RESOURCES", INSUFFICIENT_RESOURCES},
                 {"UNKNOWN", UNKNOWN}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i].word)) return words[i].code;
    return atoi(word);
}

/* What the faults file makes of this call: a code, DIE_BEFORE, DIE_AFTER, or OK. */
static int fault(const char *function, int gpu) {
    char path[600], line[256], name[80], code[40];
    path_of(path, sizeof path, "faults");
    FILE *file = fopen(path, "r");
    if (!file) return OK;
    uint64_t hash = 1469598103934665603ULL;
    for (int c; (c = fgetc(file)) != EOF;) hash = (hash ^ (uint64_t)c) * 1099511628211ULL;
    if (hash != state->faults_hash) { /* another file: its counts begin anew */
        state->faults_hash = hash;
        memset(state->seen, 0, sizeof state->seen);
    }
    rewind(file);
    int result = OK;
    for (int number = 0; result == OK && number < FAULTS && fgets(line, sizeof line, file); number++) {
        int only = -1, skip = 0, times = 1 << 30;
        const char *found;
        if (sscanf(line, "%79s %39s", name, code) != 2 || *name == '#') continue;
        if ((found = strstr(line, "gpu="))) only = atoi(found + 4);
        if ((found = strstr(line, "skip="))) skip = atoi(found + 5);
        if ((found = strstr(line, "times="))) times = atoi(found + 6);
        if ((strcmp(name, "*") && strcmp(name, function)) || (only >= 0 && only != gpu)) continue;
        int seen = (int)state->seen[number]++;
        if (seen >= skip && seen - skip < times) result = code_of(code);
    }
    fclose(file);
    return result;
}

static void note(const char *function, int gpu, const char *arguments, int result) {
    char path[600], line[256];
    path_of(path, sizeof path, "calls.log");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    int size =
        snprintf(line, sizeof line, "%d %s %d %s %d\n", (int)getpid(), function, gpu, arguments, result);
    if (write(fd, line, (size_t)size) < 0) { /* a full disk loses a line of the log, nothing else */
    }
    close(fd);
}

/* --- a call: everything between ENTER and LEAVE sees a state that no other process changes --- */

static void unlock(void) {
    flock(lock_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
}

static int enter(const char *function, int gpu, int *after) {
    pthread_mutex_lock(&mutex);
    if (!refs) {
        pthread_mutex_unlock(&mutex);
        return UNINITIALIZED;
    }
    flock(lock_fd, LOCK_EX);
    int found = fault(function, gpu);
    if (found == DIE_BEFORE) _exit(99);
    if (after) *after = found == DIE_AFTER;
    if (found == OK || found == DIE_AFTER) return OK;
    unlock();
    return found;
}

#define ENTER(gpu)                                                                                           \
    do {                                                                                                     \
        int r_ = enter(__func__, gpu, NULL);                                                                 \
        if (r_) return r_;                                                                                   \
    } while (0)
#define LEAVE(result)                                                                                        \
    do {                                                                                                     \
        int r_ = (result);                                                                                   \
        unlock();                                                                                            \
        return r_;                                                                                           \
    } while (0)
#define CHANGE(gpu, ...)                                                                                     \
    int after = 0;                                                                                           \
    char arguments[160];                                                                                     \
    snprintf(arguments, sizeof arguments, __VA_ARGS__);                                                      \
    do {                                                                                                     \
        int r_ = enter(__func__, gpu, &after);                                                               \
        if (r_) {                                                                                            \
            note(__func__, gpu, arguments, r_);                                                              \
            return r_;                                                                                       \
        }                                                                                                    \
    } while (0)
#define CHANGED(gpu, ms, result)                                                                             \
    do {                                                                                                     \
        int r_ = (result);                                                                                   \
        note(__func__, gpu, arguments, r_);                                                                  \
        if (after) _exit(99);                                                                                \
        unlock();                                                                                            \
        if (!r_ && (ms)) usleep((ms) * 1000u);                                                               \
        return r_;                                                                                           \
    } while (0)

/* --- handles: what and which, and of which generation, so that a stale one is refused --- */

static void *handle(unsigned kind, unsigned gpu, unsigned gi, unsigned ci, unsigned generation) {
    return (void *)((uint64_t)kind << 40 | (uint64_t)gpu << 32 | gi << 24 | ci << 16 | (generation & 0xffff));
}
static unsigned kind_of(const void *h) { return (unsigned)((uint64_t)h >> 40); }
static int gpu_of(const void *h) { return (int)((uint64_t)h >> 32 & 0xff); }
static unsigned gi_number(const void *h) { return (unsigned)((uint64_t)h >> 24 & 0xff); }
static unsigned ci_number(const void *h) { return (unsigned)((uint64_t)h >> 16 & 0xff); }

static Gi *gi_of(const void *h) {
    Gi *gi = &state->gpus[gpu_of(h)].gis[gi_number(h)];
    return kind_of(h) == GPU_INSTANCE && gi->used && (gi->generation & 0xffff) == ((uint64_t)h & 0xffff)
               ? gi
               : NULL;
}
static Ci *ci_of(const void *h, unsigned kind) {
    Ci *ci = &state->gpus[gpu_of(h)].gis[gi_number(h)].cis[ci_number(h)];
    return kind_of(h) == kind && ci->used && (ci->generation & 0xffff) == ((uint64_t)h & 0xffff) ? ci : NULL;
}
static GpuState *gpu_state(int gpu) {
    GpuState *found = &state->gpus[gpu];
    if (!found->set_up) {
        found->set_up = 1;
        found->mig = cards[gpu].mig;
        found->since_s = now_s();
    }
    return found;
}
static Profile *profile_of(int gpu, unsigned id) {
    for (int i = 0; i < PROFILES; i++)
        if (cards[gpu].profiles[i].known && cards[gpu].profiles[i].id == id) return &cards[gpu].profiles[i];
    return NULL;
}
static int device(const void *h) { return kind_of(h) == DEVICE && gpu_of(h) < count; }
/* What a privileged MIG call meets first. */
static int mig_ready(const void *h) {
    if (!device(h)) return INVALID_ARGUMENT;
    if (!gpu_state(gpu_of(h))->mig) return NOT_SUPPORTED;
    return root ? OK : NO_PERMISSION;
}

/* --- power: parked without compute instances, idle with, and what load_w says --- */

static unsigned power_mw(int gpu) {
    char path[600], line[128];
    int which, live = 0;
    double watts, extra = 0.0;
    for (int g = 0; g < GIS; g++)
        for (int c = 0; c < CIS; c++) live |= (int)state->gpus[gpu].gis[g].cis[c].used;
    path_of(path, sizeof path, "load_w");
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%d %lf", &which, &watts) == 2 && which == gpu) extra = watts;
    if (file) fclose(file);
    double drawn = (live ? cards[gpu].idle_mw : cards[gpu].parked_mw) + extra * 1000.0;
    return (unsigned)(drawn < cards[gpu].limit_mw ? drawn : cards[gpu].limit_mw);
}

static void advance(int gpu) {
    GpuState *found = gpu_state(gpu);
    double now = now_s();
    if (now > found->since_s) found->energy_mj += power_mw(gpu) * (now - found->since_s);
    found->since_s = now;
}

/* --- whether a process was told to use a MIG device: as long as it lives, the device is in use --- */

static int used_by_a_process(const char *uuid) {
    char path[300], wanted[80];
    static char text[1 << 17];
    DIR *proc = opendir("/proc");
    int found = 0;
    size_t size = (size_t)snprintf(wanted, sizeof wanted, "CUDA_VISIBLE_DEVICES=%s", uuid);
    for (struct dirent *entry; proc && !found && (entry = readdir(proc));) {
        if (atoi(entry->d_name) <= 0 || atoi(entry->d_name) == getpid()) continue;
        snprintf(path, sizeof path, "/proc/%.200s/environ", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        ssize_t length = read(fd, text, sizeof text);
        close(fd);
        found = length > 0 && memmem(text, (size_t)length, wanted, size) != NULL;
    }
    if (proc) closedir(proc);
    return found;
}
