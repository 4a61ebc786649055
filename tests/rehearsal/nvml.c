// NVIDIA's management library, answering from the file that REHEARSAL_CARDS names, read anew at each question.
//
// A line is a key and a value. `driver` and `cuda` are the machine's; what follows a line `card` is that card's. A figure that is
// not there is one that this card does not tell.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { TOTAL, RESERVED, USED, UTILISATION, TEMPERATURE, POWER, POWER_LIMIT, THROTTLING, LOST, ENERGY, FIGURES };
enum { MOST_CARDS = 8, MOST_PROCESSES = 16 };

static const char *const keys[FIGURES] = {"total", "reserved", "used", "utilisation", "temperature", "power", "power_limit", "throttling", "lost", "energy"};

typedef struct { unsigned pid; char kind; unsigned long long bytes; } Process;
typedef struct {
  char name[96], uuid[96];
  int major, minor, processes;
  long long figures[FIGURES];  // -1: not told
  Process process[MOST_PROCESSES];
} Card;

static char driver[80];
static int cuda;
static Card cards[MOST_CARDS];
static unsigned count;

static void read_figure(Card *card, const char *key, const char *value) {
  for (int i = 0; i < FIGURES; i++)
    if (!strcmp(key, keys[i])) card->figures[i] = atoll(value);
}

static void read_process(Card *card, const char *value) {
  Process *process = &card->process[card->processes++];
  process->bytes = ~0ull;  // as Windows says it: not available
  sscanf(value, "%u %c %llu", &process->pid, &process->kind, &process->bytes);
}

static int read_cards(void) {
  const char *path = getenv("REHEARSAL_CARDS");
  FILE *file = path ? fopen(path, "r") : NULL;
  char line[256], *value;
  count = 0;
  if (!file) return DRIVER_NOT_LOADED;
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    if (!(value = strchr(line, ' '))) continue;
    *value++ = 0;
    if (!strcmp(line, "driver")) snprintf(driver, sizeof driver, "%s", value);
    if (!strcmp(line, "cuda")) cuda = atoi(value);
    if (!strcmp(line, "card") && count < MOST_CARDS) {
      Card *card = &cards[count++];
      memset(card, 0, sizeof *card);
      memset(card->figures, -1, sizeof card->figures);
      snprintf(card->name, sizeof card->name, "%s", value);
    }
    if (!count) continue;
    Card *card = &cards[count - 1];
    if (!strcmp(line, "uuid")) snprintf(card->uuid, sizeof card->uuid, "%s", value);
    else if (!strcmp(line, "capability")) sscanf(value, "%d.%d", &card->major, &card->minor);
    else if (!strcmp(line, "process") && card->processes < MOST_PROCESSES) read_process(card, value);
    else read_figure(card, line, value);
  }
  fclose(file);
  return OK;
}

static Card *card_of(void *handle) {
  read_cards();
  size_t index = (size_t)handle - 1;
  return index < count && cards[index].figures[LOST] <= 0 ? &cards[index] : NULL;
}

static int figure(void *handle, int which, unsigned *out) {
  Card *card = card_of(handle);
  if (!card) return GPU_IS_LOST;
  if (card->figures[which] < 0) return NOT_SUPPORTED;
  *out = (unsigned)card->figures[which];
  return OK;
}

static int text(void *handle, int uuid, char *out, unsigned size) {
  Card *card = card_of(handle);
  if (!card) return GPU_IS_LOST;
  snprintf(out, size, "%s", uuid ? card->uuid : card->name);
  return OK;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return read_cards(); }
int nvmlInit_v2(void) { return read_cards(); }
int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int error) {
  switch (error) {
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
  }
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) { read_cards(); snprintf(out, size, "%s", driver); return OK; }
int nvmlSystemGetCudaDriverVersion(int *out) { read_cards(); *out = cuda; return OK; }
int nvmlDeviceGetCount_v2(unsigned *out) { read_cards(); *out = count; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
  read_cards();
  if (index >= count) return INVALID_ARGUMENT;
  if (cards[index].figures[LOST] > 1) return GPU_IS_LOST;  // some drivers refuse already here
  *out = (void *)(size_t)(index + 1);
  return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
  read_cards();
  for (unsigned index = 0; index < count; index++)
    if (!strcmp(uuid, cards[index].uuid)) return nvmlDeviceGetHandleByIndex_v2(index, out);
  return NOT_FOUND;
}

int nvmlDeviceGetName(void *handle, char *out, unsigned size) { return text(handle, 0, out, size); }
int nvmlDeviceGetUUID(void *handle, char *out, unsigned size) { return text(handle, 1, out, size); }

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;

int nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *out) {
  Card *card = card_of(handle);
  if (!card) return GPU_IS_LOST;
  out->total = card->figures[TOTAL];
  out->reserved = card->figures[RESERVED];
  out->used = card->figures[USED];
  out->free = out->total - out->used - out->reserved;
  return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *out) {  // the first version counts the driver's own part as used
  Memory2 second;
  int error = nvmlDeviceGetMemoryInfo_v2(handle, &second);
  if (!error) *out = (Memory){second.total, second.free, second.used + second.reserved};
  return error;
}

typedef struct { unsigned pid; unsigned long long bytes; unsigned instance[2]; } ProcessInfo;

static int processes(void *handle, char kind, unsigned *size, ProcessInfo *out) {
  Card *card = card_of(handle);
  unsigned found = 0, room = out ? *size : 0;
  if (!card) return GPU_IS_LOST;
  for (int i = 0; i < card->processes; i++) {
    if (card->process[i].kind != kind) continue;
    if (found < room) out[found] = (ProcessInfo){card->process[i].pid, card->process[i].bytes, {~0u, ~0u}};
    found++;
  }
  *size = found;
  return found > room ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *size, ProcessInfo *out) { return processes(handle, 'C', size, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *size, ProcessInfo *out) { return processes(handle, 'G', size, out); }

int nvmlDeviceGetUtilizationRates(void *handle, unsigned *out) { out[1] = 0; return figure(handle, UTILISATION, out); }
int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *out) { (void)sensor; return figure(handle, TEMPERATURE, out); }
int nvmlDeviceGetPowerUsage(void *handle, unsigned *out) { return figure(handle, POWER, out); }
int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *out) { return figure(handle, POWER_LIMIT, out); }

// Millijoules: what the record says, and since the machine was started what the power makes of the time.
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *out) {
  unsigned before, power;
  struct timespec now;
  int error = figure(handle, ENERGY, &before);
  if (!error) error = figure(handle, POWER, &power);
  if (error) return error;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *out = before + (unsigned long long)(power * (now.tv_sec + now.tv_nsec / 1e9));
  return OK;
}

int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *out) {
  unsigned bits = 0;
  int error = figure(handle, THROTTLING, &bits);
  *out = bits;
  return error;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
  Card *card = card_of(handle);
  if (!card) return GPU_IS_LOST;
  *major = card->major;
  *minor = card->minor;
  return OK;
}
