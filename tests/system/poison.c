// Loaded into the helper before the C library: dies of any file that holds the mark, as a bug in a parser would.
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static const char kMark[] = "TOMOSERVE-POISON";

static void DieOf(const void* bytes, size_t count) {
  if (memmem(bytes, count, kMark, sizeof(kMark) - 1) != NULL) *(volatile int*)8 = 0;
}

ssize_t pread(int fd, void* buffer, size_t count, off_t offset) {
  const ssize_t got = syscall(SYS_pread64, fd, buffer, count, offset);
  if (got > 0) DieOf(buffer, (size_t)got);
  return got;
}

void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  void* mapped = (void*)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
  // Files are mapped to be read; slots and memory are writable.
  if (mapped != MAP_FAILED && fd >= 0 && protection == PROT_READ) DieOf(mapped, length);
  return mapped;
}

ssize_t pread64(int fd, void* buffer, size_t count, off_t offset) { return pread(fd, buffer, count, offset); }
void* mmap64(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  return mmap(address, length, protection, flags, fd, offset);
}
