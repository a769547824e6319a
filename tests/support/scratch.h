// Names and directories that go away with the test, whatever its outcome. What a killed test
// process left behind is removed by the next one (SweepLeftovers).
#ifndef EPOCH_TESTS_SUPPORT_SCRATCH_H_
#define EPOCH_TESTS_SUPPORT_SCRATCH_H_

#include <string>

namespace epoch::test {

// A region name of this process, unlinked at the end of its scope.
class ScratchName {
 public:
  ScratchName();
  ScratchName(const ScratchName&) = delete;
  ScratchName& operator=(const ScratchName&) = delete;
  ~ScratchName();

  const std::string& name() const { return name_; }
  // The file that stands for the name.
  std::string path() const { return "/dev/shm/epoch." + name_; }

 private:
  std::string name_;
};

// An empty directory on a disk filesystem, removed with all it holds.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory();

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& file) const { return path_ + "/" + file; }

 private:
  std::string path_;
};

// Removes regions and directories of test processes that are gone.
void SweepLeftovers();

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_SCRATCH_H_
