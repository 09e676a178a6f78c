/* A qemu plugin (API version 1, qemu 7) that counts AArch64 instructions between marks.
 *
 * A mark is the system call getpriority(MARK, tag), which fails and changes nothing. At each mark one line goes to the
 * file given as `out=PATH`: the tag, then how many instructions of each kind ran since the mark before. Counts are sums
 * over all threads; they are exact while one thread runs at a time. The plugin interface is declared here, so that no
 * header of qemu is needed.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define SYS_GETPRIORITY 141
#define MARK 7411
#define ADD_U64 0

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t));
EXPORT int qemu_plugin_version = 1;

/* From the Arm Architecture Reference Manual: fixed bits of each encoding, by vector and by element. */
static const struct { const char *name; uint32_t mask, value; } KINDS[] = {
    {"sdot", 0xBFE0FC00, 0x0E809400}, {"sdot", 0xBFC0F400, 0x0F80E000},
    {"udot", 0xBFE0FC00, 0x2E809400}, {"udot", 0xBFC0F400, 0x2F80E000},
    {"fmla", 0xBFE0FC00, 0x0E20CC00}, {"fmla", 0xBFC0F400, 0x0F801000},
};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

static uint64_t total, counts[KIND_COUNT];
static FILE *out;

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
  size_t length = qemu_plugin_tb_n_insns(block);
  uint64_t found[KIND_COUNT] = {0};
  for (size_t i = 0; i < length; i++) {
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
    for (int k = 0; k < KIND_COUNT; k++) found[k] += (word & KINDS[k].mask) == KINDS[k].value;
  }
  qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &total, length);
  for (int k = 0; k < KIND_COUNT; k++)
    if (found[k]) qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &counts[k], found[k]);
}

static void system_call(plugin_id id, unsigned cpu, int64_t number, uint64_t first, uint64_t second, uint64_t a3,
                        uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  if (number != SYS_GETPRIORITY || first != MARK) return;
  fprintf(out, "%llu total=%llu", (unsigned long long)second, (unsigned long long)total);
  for (int k = 0; k < KIND_COUNT; k += 2)
    fprintf(out, " %s=%llu", KINDS[k].name, (unsigned long long)(counts[k] + counts[k + 1]));
  fputc('\n', out);
  fflush(out);
  total = 0;
  memset(counts, 0, sizeof counts);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  if (argc != 1 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "w"))) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, system_call);
  return 0;
}
