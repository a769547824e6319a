#include "support/puppet.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "epoch/epoch.h"
#include "support/checked_state.h"
#ifdef EPOCH_TEST_POINTS
#include "support/trap.h"
#endif

namespace epoch::test {
namespace {

std::string Answer(const absl::Status& status) { return status.ok() ? "ok" : status.ToString(); }
std::string Answer(const absl::StatusOr<Epoch>& epoch) {
  return epoch.ok() ? absl::StrCat("ok ", *epoch) : epoch.status().ToString();
}

const CommitOptions kVoted{.agreement = Agreement::kAllVoters, .min_voters = 0};

class Puppeteer {
 public:
  explicit Puppeteer(Region region) : region_(std::move(region)) {}

  std::string Obey(const std::string& line) {
    std::istringstream in(line);
    std::string verb;
    in >> verb;
    if (verb == "join" || verb == "join-voter") {
      std::string name = "puppet";
      in >> name;
      auto joined = Participant::Join(region_, {.name = name, .voter = verb == "join-voter"});
      if (!joined.ok()) return joined.status().ToString();
      self_ = std::make_unique<Participant>(*std::move(joined));
      return absl::StrCat("ok ", self_->slot(), " ", self_->generation());
    }
    if (verb == "reap") {
      auto reaped = region_.Reap();
      return reaped.ok() ? absl::StrCat("ok ", *reaped) : reaped.status().ToString();
    }
    if (verb == "fork") return Fork();
#ifdef EPOCH_TEST_POINTS
    if (verb == "trap") {
      std::string label;
      int nth = 0, signal = 0;
      in >> label >> nth >> signal;
      trap_ = std::make_unique<Trap>(label, nth, signal);
      return "ok";
    }
    if (verb == "sprung") return trap_ != nullptr && trap_->sprung() ? "yes" : "no";
#endif
    if (self_ == nullptr) return "join first";
    if (verb == "leave") return Answer(self_->Leave());
    if (verb == "rejoin") {
      if (absl::Status s = self_->Rejoin(); !s.ok()) return s.ToString();
      return absl::StrCat("ok ", self_->slot(), " ", self_->generation());
    }
    if (verb == "status") return Answer(self_->status());
    if (verb == "poll") return Answer(self_->Poll());
    if (verb == "park") return Answer(self_->Park());
    if (verb == "pin") {
      pins_.push_back(self_->Pin());
      if (pins_.back().ok()) return absl::StrCat("ok ", pins_.back().epoch());
      pins_.pop_back();
      return "refused";
    }
    if (verb == "unpin") {
      pins_.pop_back();
      return "ok";
    }
    if (verb == "read") {
      const auto value = ReadChecked(pins_.back().state());
      return value.has_value() ? absl::StrCat("ok ", *value) : "torn";
    }
    if (verb == "draft") {
      auto draft = self_->NewDraft(CheckedState(0));
      if (!draft.ok()) return draft.status().ToString();
      drafts_.push_back(*std::move(draft));
      return "ok";
    }
    if (verb == "drop") {
      drafts_.clear();
      pins_.clear();
      return "ok";
    }
    if (verb == "increment") return Answer(Increment(*self_));
    Epoch epoch = 0;
    const bool given = static_cast<bool>(in >> epoch);
    if (verb == "commit-draft") {
      CommitOptions options;
      if (given) options.expected = epoch;
      Draft draft = std::move(drafts_.back());
      drafts_.pop_back();
      return Answer(self_->Commit(std::move(draft), options));
    }
    if (verb == "commit")
      return Answer(self_->Commit(CheckedState(epoch + 1), {.expected = epoch}));
    if (verb == "await") return Answer(self_->Await(epoch, Stage::kCommitted));
    if (verb == "converge") return Answer(self_->Await(epoch, Stage::kConverged));
    if (verb == "work") return Work(epoch);
    if (verb == "agree") return Agree(epoch);
    if (verb == "serve") return ServeVotes(epoch);
    if (verb == "gather") return Gather(epoch);
    if (verb == "voted") return Answer(self_->Commit(CheckedState(epoch + 1), kVoted));
    if (verb == "contribute") return Answer(self_->CommitCollective(epoch, "part"));
    return "no such command: " + line;
  }

 private:
  // Aborted: another was faster. ResourceExhausted: somebody stopped holds a pin. Expelled: rejoin.
  absl::Status Tolerate(const absl::Status& status) {
    if (status.ok() || absl::IsAborted(status) || absl::IsResourceExhausted(status)) {
      return absl::OkStatus();
    }
    if (absl::IsFailedPrecondition(status)) return self_->Rejoin();
    return status;
  }

  std::string Work(std::uint64_t rounds) {
    Epoch last = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) {
      if (absl::Status s = Tolerate(IncrementUnpinned(*self_, region_).status()); !s.ok()) {
        return s.ToString();
      }
      if (absl::Status s = Tolerate(Increment(*self_).status()); !s.ok()) return s.ToString();
      static_cast<void>(self_->NewDraft(std::size_t{8}));
      if (round % 4 == 1) {
        if (absl::Status s = Tolerate(self_->Park()); !s.ok()) return s.ToString();
      }
      if (const Pin pin = self_->Pin(); pin.ok()) {
        if (ReadChecked(pin.state()) != pin.epoch()) return "torn state";
        if (pin.epoch() < last) return "head went back";
        last = pin.epoch();
      } else if (absl::Status s = Tolerate(self_->status()); !s.ok()) {
        return s.ToString();
      }
      if (round % 8 == 7) {
        if (absl::Status s = self_->Leave(); !s.ok()) return s.ToString();
        if (absl::Status s = self_->Rejoin(); !s.ok()) return s.ToString();
      }
    }
    return "ok";
  }

  // Votes and fences, with all that may come of them while others are stopped or dead.
  std::string Agree(std::uint64_t rounds) {
    for (std::uint64_t round = 0; round < rounds; ++round) {
      const CommitOptions options{
          .agreement = round % 5 == 4 ? Agreement::kNone : Agreement::kAllVoters,
          .min_voters = 0,
          .fence = round % 2 == 1,
          .on_straggler = round % 4 < 2 ? Straggler::kExpel : Straggler::kAbort,
          .timeout = absl::Milliseconds(100)};
      if (absl::Status s = TolerateLate(Increment(*self_, options).status()); !s.ok()) {
        return s.ToString();
      }
      if (absl::Status s = Tolerate(self_->Poll().status()); !s.ok()) return s.ToString();
      if (const Pin pin = self_->Pin(); pin.ok() && ReadChecked(pin.state()) != pin.epoch()) {
        return "torn state";
      }
    }
    return "ok";
  }
  // Answers votes, until the region has reached `epoch`.
  std::string ServeVotes(Epoch epoch) {
    while (region_.epoch() < epoch) {
      if (absl::Status s = Tolerate(self_->Poll().status()); !s.ok()) return s.ToString();
      sched_yield();
    }
    return "ok";
  }
  // Collective commits, with whoever takes part.
  std::string Gather(std::uint64_t rounds) {
    for (std::uint64_t round = 0; round < rounds; ++round) {
      const CollectiveOptions options{
          .timeout = absl::Milliseconds(100),
          .on_straggler = round % 2 == 0 ? Straggler::kAbort : Straggler::kExpel,
          .fence = round % 3 == 1};
      const absl::Status s = self_->CommitCollective(round, "part", options).status();
      if (absl::IsAlreadyExists(s)) continue;
      if (absl::Status t = TolerateLate(s); !t.ok()) return t.ToString();
    }
    return "ok";
  }
  absl::Status TolerateLate(const absl::Status& status) {
    return absl::IsDeadlineExceeded(status) ? absl::OkStatus() : Tolerate(status);
  }

  static std::string Fork() {
    const pid_t child = fork();
    if (child == 0) return "ok";
    while (waitpid(child, nullptr, 0) != child) {
    }
    return "child ended";
  }

  Region region_;
  std::unique_ptr<Participant> self_;  // outlives its pins and drafts
  std::vector<Pin> pins_;
  std::vector<Draft> drafts_;
#ifdef EPOCH_TEST_POINTS
  std::unique_ptr<Trap> trap_;
#endif
};

ROLE(Puppet) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  Puppeteer puppeteer(*std::move(region));
  for (;;) {
    const std::string line = self.wire.Hear();
    if (line == "<silent>") continue;
    if (line == "exit" || line == "<gone>") return 0;
    self.wire.Say(puppeteer.Obey(line));
  }
}

}  // namespace
}  // namespace epoch::test
