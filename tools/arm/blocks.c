/* A qemu plugin (API version 1, qemu 7): which blocks of AArch64 instructions run, how often, and what they fetch.
 *
 * A block is a straight run of instructions up to a branch. Marks are those of counter.c: what ran since the mark
 * before belongs to the mark's tag. At exit the file `out=PATH` gets a line for each tag with the bytes that came from
 * memory ("bytes TAG NUMBER"), and one for each block: "block CODE COUNT...", the code in hexadecimal and how often it
 * ran under each tag.
 *
 * What comes from memory is what misses one cache of `cache=KIB`, in lines of 64 bytes, WAYS to a set, the least
 * recently used line replaced. Every access goes to it: there is no smaller cache before it and nothing is prefetched.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define SYS_GETPRIORITY 141
#define MARK 7411
#define ADD_U64 0
#define NO_REGISTERS 0
#define READ_AND_WRITE 3
#define TAGS 16
#define WAYS 16
#define LINE_BITS 6

typedef uint64_t plugin_id;
typedef uint32_t meminfo;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, void (*)(unsigned, meminfo, uint64_t, void *), int, int,
                                      void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t));
EXPORT int qemu_plugin_version = 1;

struct block {
  struct block *before;
  uint64_t now, ran[TAGS];
  size_t length;
  uint32_t code[];
};
static struct block *blocks;
static uint64_t *lines, sets, missed, fetched[TAGS];
static FILE *out;

/* Lines of a set, the last used one first. */
static void accessed(unsigned cpu, meminfo info, uint64_t address, void *data) {
  uint64_t line = (address >> LINE_BITS) + 1, *set = lines + (line & (sets - 1)) * WAYS;
  if (*set == line) return;
  int way = 1;
  while (way < WAYS - 1 && set[way] != line) way++;
  missed += set[way] != line;
  memmove(set + 1, set, way * sizeof *set);
  *set = line;
}

static void translated(plugin_id id, struct qemu_plugin_tb *translation) {
  size_t length = qemu_plugin_tb_n_insns(translation);
  struct block *block = calloc(1, sizeof *block + length * sizeof *block->code);
  if (!block) abort();
  block->length = length;
  block->before = blocks;
  blocks = block;
  for (size_t i = 0; i < length; i++) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(translation, i);
    memcpy(block->code + i, qemu_plugin_insn_data(instruction), sizeof *block->code);
    if (sets) qemu_plugin_register_vcpu_mem_cb(instruction, accessed, NO_REGISTERS, READ_AND_WRITE, NULL);
  }
  qemu_plugin_register_vcpu_tb_exec_inline(translation, ADD_U64, &block->now, 1);
}

static void mark(uint64_t tag) {
  for (struct block *block = blocks; block; block = block->before) {
    block->ran[tag] += block->now;
    block->now = 0;
  }
  fetched[tag] += missed << LINE_BITS;
  missed = 0;
}

static void system_call(plugin_id id, unsigned cpu, int64_t number, uint64_t first, uint64_t second, uint64_t a3,
                        uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  if (number == SYS_GETPRIORITY && first == MARK && second < TAGS) mark(second);
}

static void ended(plugin_id id, void *data) {
  for (int tag = 0; tag < TAGS; tag++) fprintf(out, "bytes %d %llu\n", tag, (unsigned long long)fetched[tag]);
  for (struct block *block = blocks; block; block = block->before) {
    uint64_t all = 0;
    for (int tag = 0; tag < TAGS; tag++) all += block->ran[tag];
    if (!all) continue;
    fputs("block ", out);
    for (size_t i = 0; i < block->length; i++) fprintf(out, "%08x", block->code[i]);
    for (int tag = 0; tag < TAGS; tag++) fprintf(out, " %llu", (unsigned long long)block->ran[tag]);
    fputc('\n', out);
  }
  fclose(out);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  for (int i = 0; i < argc; i++) {
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!strncmp(argv[i], "cache=", 6)) sets = (strtoull(argv[i] + 6, NULL, 10) << 10 >> LINE_BITS) / WAYS;
  }
  if (!out || (sets && !(lines = calloc(sets * WAYS, sizeof *lines)))) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, system_call);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
