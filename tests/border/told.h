// What the process of an operation leaves behind for its parent, in memory that both share: no
// system call is needed to say it, so none that is denied can keep it back.
#ifndef EPOCH_TESTS_BORDER_TOLD_H_
#define EPOCH_TESTS_BORDER_TOLD_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "epoch/epoch.h"

namespace epoch::test {

template <typename T>
class SharedPage {
 public:
  static_assert(std::is_trivially_destructible_v<T>);
  SharedPage()
      : value_(new (mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                         0)) T()) {}
  SharedPage(const SharedPage&) = delete;
  SharedPage& operator=(const SharedPage&) = delete;
  ~SharedPage() { munmap(value_, sizeof(T)); }
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_;
};

struct Text {
  char bytes[8192] = {};
  void Set(std::string_view text) {
    *std::copy_n(text.data(), std::min(text.size(), sizeof bytes - 1), bytes) = '\0';
  }
  void Add(std::string_view line) { Set(std::string(bytes) + std::string(line) + "\n"); }
};

struct Told {
  Text imposed{};  // why the condition could not be imposed; empty: it is
  bool begun = false;
  bool ended = false;
  bool out_of_memory = false;  // std::bad_alloc came out of it
  absl::StatusCode code{};
  Text message{};
  Epoch epoch = 0;          // the newest that it was told is committed
  int standard_taken = -1;  // a standard descriptor that was closed, and that it keeps something in
  int descriptors_before = 0;
  int descriptors_after = 0;
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_TOLD_H_
