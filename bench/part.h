// A benchmark of several parts, measured in rounds: each part a process of its own, so that none
// inherits another's memory, threads or caches, and one that fails leaves the others alone.
//
// The parts take turns: while one does its round, all others sleep in a read.
#ifndef EPOCH_BENCH_PART_H_
#define EPOCH_BENCH_PART_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace epoch::bench {

// What one round gave: samples by series. Nanoseconds, unless the series' name ends otherwise.
using Samples = std::map<std::string, std::vector<double>>;
// What is worth knowing beside the figures: settings, versions, backends.
using Facts = std::map<std::string, std::string>;

// Where a run may leave things while it lasts; removed with all that is in them.
struct Places {
  std::string disk;    // a directory on a real disk
  std::string memory;  // a directory on tmpfs, for the regions
};

class Part {
 public:
  virtual ~Part() = default;
  virtual void Round(Samples& samples) = 0;
  virtual Facts Describe() { return {}; }
};
using MakePart = std::function<std::unique_ptr<Part>(const Places& places)>;

// SIGINT, SIGTERM and SIGHUP from now on make Interrupted() true and let what waits for a part give
// up; destructors then clean up as usual. So does the death of this process's parent.
void HandleInterrupts();
bool Interrupted();

// A part in its process. The process is killed with its parent, and so are its children.
class PartProcess {
 public:
  // Returns when the part is ready, or has failed to become so.
  PartProcess(std::string name, const MakePart& make, const Places& places);
  ~PartProcess();
  PartProcess(const PartProcess&) = delete;
  PartProcess& operator=(const PartProcess&) = delete;

  const std::string& name() const { return name_; }
  // False once its process has died; what it said then is on stderr.
  bool alive() const { return pid_ > 0; }
  const Facts& facts() const { return facts_; }
  // One round. Empty if the process died.
  Samples Round();

 private:
  void Lost();

  const std::string name_;
  pid_t pid_ = -1;
  int commands_ = -1;
  int replies_ = -1;
  Facts facts_;
};

// Forks a process that dies with this one, runs `body` in it and leaves. Returns its pid.
pid_t ForkHelper(const std::function<void()>& body);
// Kills and reaps it. Nothing if it is not positive.
void KillHelper(pid_t pid);
// Waits for all descendants of this process that are about to end, those of killed parts, too.
void AwaitDescendants();

}  // namespace epoch::bench

#endif  // EPOCH_BENCH_PART_H_
