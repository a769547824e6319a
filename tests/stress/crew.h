// The processes of a round: started, killed, stopped and resumed at random, and each of that
// logged. All are killed when the crew goes, and by the kernel when this process does.
//
// Thread safety: none; one crew at a time, since it waits for any child.
#ifndef EPOCH_TESTS_STRESS_CREW_H_
#define EPOCH_TESTS_STRESS_CREW_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "stress/log.h"
#include "stress/random.h"

namespace epoch::stress {

class Crew {
 public:
  struct Tally {
    std::uint64_t kills = 0;
    std::uint64_t stops = 0;
  };

  // `planted`: a bug that the programs are asked for, or none.
  Crew(std::string directory, std::vector<std::string> programs, std::string planted,
       LogWriter& log, Random& random, Tally& tally);
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew();

  // Starts one more process, of a random one of the programs.
  void Start(bool to_finish = false);
  // One random signal to one of them.
  void Disturb();
  // Resumes those whose time has come; notices who has ended or stopped itself.
  void Tend();
  // Nobody lives afterwards, nor a child that one of the killed had forked and that has a slot.
  void KillAll();
  // Resumes all, asks them to end, and kills those that do not within `patience_ns`.
  void EndAll(std::int64_t patience_ns);

  std::size_t size() const { return members_.size(); }
  // When the next stopped one is to be resumed.
  std::int64_t NextResume() const;

 private:
  struct Member {
    std::uint32_t serial;
    bool killed = false;
    std::int64_t resume_at_ns = 0;  // 0: not stopped
  };

  void Log(Kind kind, std::uint32_t serial, std::uint64_t detail = 0);
  void Kill(pid_t pid, Member& member);
  void MarkStopped(Member& member);
  void Resume(pid_t pid, Member& member);
  void Collect(bool wait);

  const std::string directory_;
  const std::vector<std::string> programs_;
  const std::string planted_;
  LogWriter& log_;
  Random& random_;
  Tally& tally_;
  std::uint32_t serials_ = 0;
  std::map<pid_t, Member> members_;
};

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_CREW_H_
