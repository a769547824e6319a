// Memory for core/files/disk.cc, whose mmap and munmap are compiled to these two: buffers are
// used again instead of being faulted in anew, which would take longer than all else in a recovery.
#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <map>
#include <vector>

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLargest = std::size_t{2} << 20;  // those above are cut to fit, in pieces
std::map<std::size_t, std::vector<void*>> spare;

bool AllZero(const char* page) {
  return page[0] == 0 && std::memcmp(page, page + 1, kPage - 1) == 0;
}

// Buffers are filled from their beginning, and no page of a batch is all zeros: behind so many that
// are, nothing was written.
void Clear(char* memory, std::size_t size) {
  constexpr std::size_t kUntouched = 16;
  std::size_t zeros = 0;
  for (std::size_t at = 0; at < size && zeros < kUntouched; at += kPage) {
    if (AllZero(memory + at)) {
      ++zeros;
      continue;
    }
    std::memset(memory + at, 0, kPage);
    zeros = 0;
  }
}

}  // namespace

extern "C" void* epoch_images_mmap(void*, std::size_t size, int, int, int, off_t) {
  auto& kept = spare[size];
  if (size < kLargest && !kept.empty()) {
    void* memory = kept.back();
    kept.pop_back();
    return memory;
  }
  return mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

extern "C" int epoch_images_munmap(void* memory, std::size_t size) {
  if (size >= kLargest) return munmap(memory, size);
  Clear(static_cast<char*>(memory), size);
  spare[size].push_back(memory);
  return 0;
}
