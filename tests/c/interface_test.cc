// What C is told of an error is what C++ is told: each situation is made twice, once through each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "epoch/c.h"
#include "epoch/epoch.h"
#include "epoch/journal.h"
#include "support/child.h"
#include "support/refuse_calls.h"
#include "support/region_test.h"
#include "support/scratch.h"
#include "support/time_limits.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

struct Told {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string message;
  ErrorDetails details;
};

Told Of(const absl::Status& status) {
  return {status.code(), std::string(status.message()), Details(status)};
}
Told Of(epoch_error* error) {
  Told told;
  told.code = static_cast<absl::StatusCode>(epoch_error_code(error));
  told.message = epoch_error_message(error);
  told.details.cause = static_cast<Cause>(epoch_error_cause(error));
  told.details.outcome = static_cast<Outcome>(epoch_error_outcome(error));
  Epoch epoch = 0;
  if (epoch_error_expected(error, &epoch) != 0) told.details.expected = epoch;
  if (epoch_error_actual(error, &epoch) != 0) told.details.actual = epoch;
  if (epoch_error_accepted(error, &epoch) != 0) told.details.accepted = epoch;
  for (std::size_t i = 0; i < epoch_error_culprit_count(error); ++i) {
    epoch_culprit is{};
    is.struct_size = sizeof is;
    EXPECT_EQ(epoch_error_culprit(error, i, &is), EPOCH_OK);
    told.details.culprits.push_back(
        {.slot = is.slot,
         .generation = is.generation,
         .pid = is.pid,
         .name = is.name,
         .reason = is.reason,
         .epoch = is.has_epoch != 0 ? std::optional<Epoch>(is.epoch) : std::nullopt});
  }
  epoch_error_free(error);
  return told;
}

// One region, with one participant through each interface; a situation uses one of the two.
class Side {
 public:
  explicit Side(bool durable) {
    RegionOptions options;
    options.state_bytes = 256;
    options.participants = 4;
    options.versions = durable ? 32 : 8;
    if (durable) options.journal = journal_ / "journal";
    region_.emplace(Region::Create(name_.name(), options).value());
  }
  Region& cpp() { return *region_; }
  epoch_region* c() {
    if (c_ == nullptr) {
      EXPECT_EQ(epoch_region_open(name_.name().c_str(), nullptr, &c_, nullptr), EPOCH_OK);
    }
    return c_;
  }
  std::string path() const { return name_.path(); }
  // The two are made in regions of their own, whose paths are in the words.
  Told Without(Told told) const {
    for (const std::string& path : {name_.path(), journal_.path()}) {
      for (std::size_t at = 0; (at = told.message.find(path)) != std::string::npos;) {
        told.message.replace(at, path.size(), "PATH");
      }
    }
    return told;
  }
  ~Side() { epoch_region_free(c_); }

 private:
  ScratchName name_;
  ScratchDirectory journal_;
  std::optional<Region> region_;
  epoch_region* c_ = nullptr;
};

Participant Join(Side& side, const std::string& name = "self", bool voter = false) {
  return Participant::Join(side.cpp(), {.name = name, .voter = voter}).value();
}
struct FreeParticipant {
  void operator()(epoch_participant* self) const { epoch_participant_free(self); }
};
using CParticipant = std::unique_ptr<epoch_participant, FreeParticipant>;
CParticipant JoinC(Side& side, const char* name = "self") {
  epoch_join_options options{};
  options.struct_size = sizeof options;
  options.name = name;
  epoch_participant* self = nullptr;
  EXPECT_EQ(epoch_participant_join(side.c(), &options, &self, nullptr), EPOCH_OK);
  return CParticipant(self);
}
template <typename T>
T Options() {
  T options{};
  options.struct_size = sizeof options;
  return options;
}

constexpr std::int64_t kSoon_ns = 5'000'000;
static_assert(kSoon == absl::Nanoseconds(kSoon_ns));

struct Situation {
  const char* name;
  bool durable;
  std::function<absl::Status(Side&)> in_cpp;
  std::function<void(Side&, epoch_error**)> in_c;
  Cause cause;
};

// Holds a vote up, or refuses, as a third process would.
struct Voting {
  Voting(Side& side, bool refuses) : voter(Join(side, "voter", true)) {
    if (!refuses) return;
    voter.SetValidator([](const Proposal&) { return Answer::Reject("no step"); });
    listener.emplace(voter.Listen().value());
  }
  Participant voter;
  std::optional<Listener> listener;
};

const Situation kSituations[] = {
    {"expected_differs", false,
     [](Side& side) { return Join(side).Commit("x", {.expected = 7}).status(); },
     [](Side& side, epoch_error** error) {
       auto options = Options<epoch_commit_options>();
       options.has_expected = 1;
       options.expected = 7;
       epoch_participant_commit(JoinC(side).get(), "x", 1, &options, nullptr, error);
     },
     Cause::kExpectedDiffers},
    {"rejected", false,
     [](Side& side) {
       const Voting voting(side, true);
       return Join(side).Commit("x", {.agreement = Agreement::kAllVoters}).status();
     },
     [](Side& side, epoch_error** error) {
       const Voting voting(side, true);
       auto options = Options<epoch_commit_options>();
       options.agreement = EPOCH_AGREE_ALL_VOTERS;
       epoch_participant_commit(JoinC(side).get(), "x", 1, &options, nullptr, error);
     },
     Cause::kRejected},
    {"timed_out", false,
     [](Side& side) {
       const Voting voting(side, false);
       return Join(side)
           .Commit("x", {.agreement = Agreement::kAllVoters, .timeout = kSoon})
           .status();
     },
     [](Side& side, epoch_error** error) {
       const Voting voting(side, false);
       auto options = Options<epoch_commit_options>();
       options.agreement = EPOCH_AGREE_ALL_VOTERS;
       options.timeout_ns = kSoon_ns;
       epoch_participant_commit(JoinC(side).get(), "x", 1, &options, nullptr, error);
     },
     Cause::kTimedOut},
    {"interrupted", false,
     [](Side& side) {
       const Voting voting(side, false);
       return Join(side)
           .Commit("x", {.agreement = Agreement::kAllVoters, .interrupted = [] { return true; }})
           .status();
     },
     [](Side& side, epoch_error** error) {
       const Voting voting(side, false);
       auto options = Options<epoch_commit_options>();
       options.agreement = EPOCH_AGREE_ALL_VOTERS;
       options.interrupted = [](void*) { return 1; };
       epoch_participant_commit(JoinC(side).get(), "x", 1, &options, nullptr, error);
     },
     Cause::kInterrupted},
    {"too_few_voters", false,
     [](Side& side) {
       return Join(side)
           .Commit("x", {.agreement = Agreement::kAllVoters, .min_voters = 2})
           .status();
     },
     [](Side& side, epoch_error** error) {
       auto options = Options<epoch_commit_options>();
       options.agreement = EPOCH_AGREE_ALL_VOTERS;
       options.min_voters = 2;
       epoch_participant_commit(JoinC(side).get(), "x", 1, &options, nullptr, error);
     },
     Cause::kTooFewVoters},
    {"expelled", false,
     [](Side& side) {
       Participant self = Join(side);
       EXPECT_OK(side.cpp().Expel(0));
       return self.Commit("x").status();
     },
     [](Side& side, epoch_error** error) {
       const CParticipant self = JoinC(side);
       EXPECT_OK(side.cpp().Expel(0));
       epoch_participant_commit(self.get(), "x", 1, nullptr, nullptr, error);
     },
     Cause::kExpelled},
    {"left", false,
     [](Side& side) {
       Participant self = Join(side);
       EXPECT_OK(self.Leave());
       return self.TryPin().status();
     },
     [](Side& side, epoch_error** error) {
       const CParticipant self = JoinC(side);
       EXPECT_EQ(epoch_participant_leave(self.get(), nullptr), EPOCH_OK);
       epoch_pin pin;
       epoch_participant_try_pin(self.get(), nullptr, &pin, error);
     },
     Cause::kLeft},
    {"pin_held", false,
     [](Side& side) {
       Participant self = Join(side);
       const Pin pin = self.Pin();
       return self.Commit("x", {.fence = true}).status();
     },
     [](Side& side, epoch_error** error) {
       const CParticipant self = JoinC(side);
       epoch_pin pin;
       EXPECT_EQ(epoch_participant_pin(self.get(), &pin, nullptr), EPOCH_OK);
       auto options = Options<epoch_commit_options>();
       options.fence = 1;
       epoch_participant_commit(self.get(), "x", 1, &options, nullptr, error);
       EXPECT_EQ(epoch_pin_release(&pin), EPOCH_OK);
     },
     Cause::kPinHeld},
    {"draining", false,
     [](Side& side) {
       Participant reader = Join(side, "reader"), self = Join(side), proposer = Join(side);
       Pin pin = reader.Pin();
       std::thread fence([&] { EXPECT_OK(proposer.Commit("x", {.fence = true})); });
       absl::Status status;
       EXPECT_TRUE(Await([&] { return !(status = self.TryPin().status()).ok(); }));
       pin.Release();
       fence.join();
       return status;
     },
     [](Side& side, epoch_error** error) {
       Participant reader = Join(side, "reader");
       const CParticipant self = JoinC(side);
       Participant proposer = Join(side);
       Pin pin = reader.Pin();
       std::thread fence([&] { EXPECT_OK(proposer.Commit("x", {.fence = true})); });
       EXPECT_TRUE(Await([&] {
         epoch_pin mine;
         const epoch_code code = epoch_participant_try_pin(self.get(), nullptr, &mine, error);
         if (code == EPOCH_OK) epoch_pin_release(&mine);
         return code != EPOCH_OK;
       }));
       pin.Release();
       fence.join();
     },
     Cause::kDraining},
    {"no_slot", false,
     [](Side& side) {
       std::vector<Participant> all;
       for (int i = 0; i < 4; ++i) all.push_back(Join(side));
       return Participant::Join(side.cpp()).status();
     },
     [](Side& side, epoch_error** error) {
       std::vector<CParticipant> all;
       for (int i = 0; i < 4; ++i) all.push_back(JoinC(side));
       epoch_participant* none = nullptr;
       epoch_participant_join(side.c(), nullptr, &none, error);
       EXPECT_EQ(none, nullptr);
     },
     Cause::kNoSlot},
    {"no_version", false,
     [](Side& side) {
       Participant self = Join(side);
       std::vector<Draft> all;
       for (int i = 0; i < 7; ++i) all.push_back(self.NewDraft(std::size_t{1}).value());
       return self.NewDraft(std::size_t{1}).status();
     },
     [](Side& side, epoch_error** error) {
       const CParticipant self = JoinC(side);
       epoch_draft* all[8] = {};
       for (int i = 0; i < 8; ++i) {
         epoch_participant_draft(self.get(), 1, nullptr, &all[i], i < 7 ? nullptr : error);
       }
       for (epoch_draft* draft : all) epoch_draft_free(draft);
     },
     Cause::kNoVersion},
    {"too_large", false,
     [](Side& side) { return Join(side).Commit(std::string(257, 'x')).status(); },
     [](Side& side, epoch_error** error) {
       epoch_participant_commit(JoinC(side).get(), std::string(257, 'x').data(), 257, nullptr,
                                nullptr, error);
     },
     Cause::kTooLarge},
    {"not_written", false,
     [](Side& side) {
       return Join(side).Update([](const Current&, Draft&) { return absl::OkStatus(); }).status();
     },
     [](Side& side, epoch_error** error) {
       epoch_participant_update(
           JoinC(side).get(), [](void*, const epoch_current*, epoch_draft*) -> int { return 0; },
           nullptr, nullptr, nullptr, error);
     },
     Cause::kNotWritten},
    {"not_committed_yet", false, [](Side& side) { return Join(side).Acknowledge(3); },
     [](Side& side, epoch_error** error) {
       epoch_participant_acknowledge(JoinC(side).get(), 3, error);
     },
     Cause::kInvalid},
    {"not_converged", false,
     [](Side& side) {
       Participant behind = Join(side, "behind"), self = Join(side);
       EXPECT_OK(self.Commit("x"));
       return self.Await(1, Stage::kConverged, kSoon).status();
     },
     [](Side& side, epoch_error** error) {
       const CParticipant behind = JoinC(side, "behind"), self = JoinC(side);
       EXPECT_EQ(epoch_participant_commit(self.get(), "x", 1, nullptr, nullptr, nullptr), EPOCH_OK);
       auto soon = Options<epoch_wait_options>();
       soon.timeout_ns = kSoon_ns;
       epoch_participant_await(self.get(), 1, EPOCH_STAGE_CONVERGED, &soon, nullptr, error);
     },
     Cause::kTimedOut},
    {"no_voter_contributes", false,
     [](Side& side) { return Join(side).CommitCollective(7, "x").status(); },
     [](Side& side, epoch_error** error) {
       epoch_participant_commit_collective(JoinC(side).get(), 7, "x", 1, nullptr, nullptr, error);
     },
     Cause::kInvalid},
    {"failed_write_of_the_journal", true,
     [](Side& side) {
       Participant self = Join(side);
       const Trap trap("journal.write", 1, [] { return EIO; });
       return self.Commit("x").status();
     },
     [](Side& side, epoch_error** error) {
       const CParticipant self = JoinC(side);
       const Trap trap("journal.write", 1, [] { return EIO; });
       epoch_participant_commit(self.get(), "x", 1, nullptr, nullptr, error);
     },
     Cause::kPoisoned},
    {"no_change_and_the_wait_for_what_was_read_fails", true,
     [](Side& side) {
       Participant self = Join(side);
       EXPECT_OK(self.Propose(self.NewDraft(std::size_t{1}).value()));
       const Ticket ticket =
           self.ProposeUpdate([](const Current&, Draft&) { return NoChange(); }).value();
       const Trap trap("journal.write", 1, [] { return EIO; });
       return self.Await(ticket).status();
     },
     [](Side& side, epoch_error** error) {
       const CParticipant self = JoinC(side);
       epoch_draft* draft = nullptr;
       std::uint64_t ticket = 0;
       EXPECT_EQ(epoch_participant_draft(self.get(), 1, nullptr, &draft, nullptr), EPOCH_OK);
       EXPECT_EQ(epoch_participant_propose(self.get(), draft, nullptr, &ticket, nullptr), EPOCH_OK);
       epoch_draft_free(draft);
       EXPECT_EQ(
           epoch_participant_propose_update(
               self.get(),
               [](void*, const epoch_current*, epoch_draft*) -> int { return EPOCH_NO_CHANGE; },
               nullptr, nullptr, &ticket, nullptr),
           EPOCH_OK);
       const Trap trap("journal.write", 1, [] { return EIO; });
       epoch_participant_await_ticket(self.get(), ticket, nullptr, nullptr, error);
     },
     Cause::kPoisoned},
    {"poisoned", true,
     [](Side& side) {
       Participant self = Join(side);
       const Trap trap("journal.write", 1, [] { return EIO; });
       EXPECT_FALSE(self.Commit("x").ok());
       return self.Commit("y").status();
     },
     [](Side& side, epoch_error** error) {
       const CParticipant self = JoinC(side);
       const Trap trap("journal.write", 1, [] { return EIO; });
       EXPECT_EQ(epoch_participant_commit(self.get(), "x", 1, nullptr, nullptr, nullptr),
                 EPOCH_DATA_LOSS);
       epoch_participant_commit(self.get(), "y", 1, nullptr, nullptr, error);
     },
     Cause::kPoisoned},
    {"read_only", false,
     [](Side& side) {
       return Participant::Join(Region::Open(side.path(), {.read_only = true}).value()).status();
     },
     [](Side& side, epoch_error** error) {
       auto options = Options<epoch_region_options>();
       options.read_only = 1;
       epoch_region* region = nullptr;
       epoch_participant* none = nullptr;
       EXPECT_EQ(epoch_region_open(side.path().c_str(), &options, &region, nullptr), EPOCH_OK);
       epoch_participant_join(region, nullptr, &none, error);
       epoch_region_free(region);
     },
     Cause::kReadOnly},
    {"exists", false, [](Side& side) { return Region::Create(side.path()).status(); },
     [](Side& side, epoch_error** error) {
       epoch_region* none = nullptr;
       epoch_region_create(side.path().c_str(), nullptr, &none, error);
     },
     Cause::kOther},
    {"not_found", false, [](Side& side) { return Region::Open(side.path() + "-not").status(); },
     [](Side& side, epoch_error** error) {
       epoch_region* none = nullptr;
       epoch_region_open((side.path() + "-not").c_str(), nullptr, &none, error);
     },
     Cause::kOther},
};

class CInterfaceTest : public testing::TestWithParam<Situation> {};

TEST_P(CInterfaceTest, tells_of_an_error_what_cpp_tells) {
  const Situation& situation = GetParam();
  Told cpp, c;
  {
    Side side(situation.durable);
    cpp = side.Without(Of(situation.in_cpp(side)));
  }
  {
    Side side(situation.durable);
    epoch_error* error = nullptr;
    situation.in_c(side, &error);
    ASSERT_NE(error, nullptr);
    c = side.Without(Of(error));
  }
  EXPECT_EQ(cpp.details.cause, situation.cause) << cpp.message;
  EXPECT_EQ(c.code, cpp.code);
  EXPECT_EQ(c.message, cpp.message);
  EXPECT_TRUE(c.details == cpp.details);
}

std::ostream& operator<<(std::ostream& out, const Situation& is) { return out << is.name; }

INSTANTIATE_TEST_SUITE_P(Situations, CInterfaceTest, testing::ValuesIn(kSituations),
                         [](const auto& each) { return std::string(each.param.name); });

// The numbers of C are those of C++: so what is cast there is what is meant.
TEST(CNumbers, are_those_of_cpp) {
  EXPECT_EQ(static_cast<int>(EPOCH_CAUSE_JOURNAL_AWAY), static_cast<int>(Cause::kJournalAway));
  EXPECT_EQ(static_cast<int>(EPOCH_CAUSE_NO_CHANGE), static_cast<int>(Cause::kNoChange));
  EXPECT_EQ(static_cast<int>(EPOCH_CAUSE_PIN_HELD), static_cast<int>(Cause::kPinHeld));
  EXPECT_EQ(static_cast<int>(EPOCH_OUTCOME_UNKNOWN), static_cast<int>(Outcome::kUnknown));
  EXPECT_EQ(static_cast<int>(EPOCH_DATA_LOSS), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_EQ(static_cast<int>(EPOCH_CONDITION_PARKED), static_cast<int>(Condition::kParked));
  EXPECT_EQ(std::size_t{EPOCH_MAX_CONTRIBUTION_BYTES}, kMaxContributionBytes);
  for (int code = 0; code <= EPOCH_DATA_LOSS; ++code) {
    EXPECT_EQ(epoch_code_name(static_cast<epoch_code>(code)),
              absl::StatusCodeToString(static_cast<absl::StatusCode>(code)));
  }
}

// Whoever frees a participant may meet another thread that is just leaving it: the slot is free all
// the same, each time. There is one slot.
std::string FreeWhileOthersLeave(const std::string& name) {
  auto options = Options<epoch_region_options>();
  options.participants = 1;
  epoch_region* region = nullptr;
  epoch_error* error = nullptr;
  if (epoch_region_create(name.c_str(), &options, &region, &error) != EPOCH_OK) return "no region";
  for (int round = 0; round < 300; ++round) {
    epoch_participant* self = nullptr;
    if (epoch_participant_join(region, nullptr, &self, &error) != EPOCH_OK) {
      return "round " + std::to_string(round) + ": " + Of(error).message;
    }
    std::atomic<bool> is_in{false};
    std::thread other([&] {
      epoch_pin pin;
      while (epoch_participant_pin(self, &pin, nullptr) == EPOCH_OK) {
        is_in.store(true);
        epoch_pin_release(&pin);
      }
    });
    while (!is_in.load()) std::this_thread::yield();
    epoch_participant_free(self);
    other.join();
  }
  epoch_region_free(region);
  return {};
}
ROLE(CFreesWithoutBarrier) {
  ROLE_CHECK(RefuseCalls({{SYS_membarrier, EPERM}}));
  const std::string wrong = FreeWhileOthersLeave(self.args.at(0));
  ROLE_CHECK(wrong.empty(), wrong);
  return 0;
}

TEST(CFree, takes_effect_whoever_is_inside) {
  const ScratchName name;
  EXPECT_EQ(FreeWhileOthersLeave(name.name()), "");
}
TEST(CFree, takes_effect_where_the_system_has_no_barrier) {
  const ScratchName name;
  Child child("CFreesWithoutBarrier", {name.name()});
  EXPECT_EQ(child.Wait(), 0);
}

// What is held is what the handle's own count says, whatever somebody has written over the slot.
TEST(CPin, is_held_although_its_pin_word_was_overwritten) {
  Side side(false);
  const CParticipant self = JoinC(side);
  epoch_error* error = nullptr;
  for (int pins = 1; pins <= 2; ++pins) {
    epoch_pin all[2];
    for (int i = 0; i < pins; ++i) {
      ASSERT_EQ(epoch_participant_pin(self.get(), &all[i], nullptr), EPOCH_OK);
    }
    auto& word = side.cpp().mapping()->view().slots[0].pin;
    const std::uint64_t before = word.Load();
    word.Store(0);
    EXPECT_EQ(epoch_participant_leave(self.get(), &error), EPOCH_FAILED_PRECONDITION);
    EXPECT_EQ(Of(error).details.cause, Cause::kPinHeld);
    EXPECT_EQ(epoch_participant_rejoin(self.get(), &error), EPOCH_FAILED_PRECONDITION);
    EXPECT_EQ(Of(error).details.cause, Cause::kPinHeld);
    EXPECT_EQ(epoch_participant_park(self.get(), &error), EPOCH_FAILED_PRECONDITION);
    EXPECT_EQ(Of(error).details.cause, Cause::kPinHeld);
    word.Store(before);
    for (int i = 0; i < pins; ++i) EXPECT_EQ(epoch_pin_release(&all[i]), EPOCH_OK);
    EXPECT_EQ(epoch_participant_leave(self.get(), nullptr), EPOCH_OK);
    EXPECT_EQ(epoch_participant_rejoin(self.get(), nullptr), EPOCH_OK);
  }
}

// An exception of the language that the library is written in never gets out.
TEST(CExceptions, become_codes) {
  Side side(false);
  const CParticipant self = JoinC(side);
  epoch_error* error = nullptr;
  EXPECT_EQ(epoch_participant_update(
                self.get(),
                [](void*, const epoch_current*, epoch_draft*) -> int { throw std::bad_alloc(); },
                nullptr, nullptr, nullptr, &error),
            EPOCH_RESOURCE_EXHAUSTED);
  EXPECT_EQ(epoch_error_cause(error), EPOCH_CAUSE_NO_SPACE);
  EXPECT_EQ(epoch_error_outcome(error), EPOCH_OUTCOME_UNKNOWN);
  EXPECT_STREQ(epoch_error_message(error), "no memory");
  epoch_error_free(error);
  epoch_error_free(error);  // it is never freed
  EXPECT_EQ(epoch_participant_update(
                self.get(), [](void*, const epoch_current*, epoch_draft*) -> int { throw 7; },
                nullptr, nullptr, nullptr, &error),
            EPOCH_INTERNAL);
  epoch_error_free(error);
  EXPECT_EQ(epoch_participant_leave(self.get(), nullptr), EPOCH_OK) << "it holds nothing";
}

}  // namespace
}  // namespace epoch::test
