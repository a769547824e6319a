// A process that uses the C interface is killed, or stopped and resumed, at each labelled point
// that a few commits pass: the others, who use it as well, go on, and nothing leaks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "epoch/c.h"
#include "support/child.h"
#include "support/no_damage.h"
#include "support/region_test.h"
#include "support/scratch.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

constexpr epoch_region_options kSmallC{.struct_size = sizeof(epoch_region_options),
                                       .state_bytes = 256,
                                       .participants = 8,
                                       .versions = 8,
                                       .journal = nullptr,
                                       .segment_bytes = 0,
                                       .retain_epochs = 0,
                                       .retain_segments = 0,
                                       .history = 0,
                                       .restore_timeout_ns = 0,
                                       .interrupted = nullptr,
                                       .interrupted_user = nullptr,
                                       .mode = 0,
                                       .ignore_block_damage = 0,
                                       .read_only = 0,
                                       .trust_other_owners = 0};

// Each state is the number of its epoch; so one that is lost, or done twice, shows.
int CountUp(void*, const epoch_current* current, epoch_draft* next) {
  const auto value = ReadChecked({static_cast<const std::byte*>(current->data), current->size});
  if (value != current->epoch) return EPOCH_DATA_LOSS;
  const std::vector<std::byte> state = CheckedState(*value + 1);
  return epoch_draft_assign(next, state.data(), state.size(), nullptr);
}

std::string Words(epoch_error* error) {
  std::string words = epoch_error_message(error);
  epoch_error_free(error);
  return words;
}

// A round of what a program does. Empty: all of it went well.
std::string Work(const std::string& name, bool voted) {
  epoch_error* error = nullptr;
  epoch_region* region = nullptr;
  epoch_participant* self = nullptr;
  epoch_join_options joining{};
  joining.struct_size = sizeof joining;
  joining.name = "victim";
  joining.voter = voted ? 1 : 0;
  if (epoch_region_open(name.c_str(), nullptr, &region, &error) != EPOCH_OK) return Words(error);
  if (epoch_participant_join(region, &joining, &self, &error) != EPOCH_OK) return Words(error);
  epoch_region_free(region);
  epoch_commit_options options{};
  options.struct_size = sizeof options;
  options.agreement = voted ? EPOCH_AGREE_ALL_VOTERS : EPOCH_AGREE_NONE;
  options.fence = voted ? 1 : 0;
  for (int i = 0; i < 10; ++i) {
    std::uint64_t ticket = 0;
    const epoch_code code =
        i % 2 == 0
            ? epoch_participant_update(self, CountUp, nullptr, &options, nullptr, &error)
            : epoch_participant_propose_update(self, CountUp, nullptr, &options, &ticket, &error);
    if (code != EPOCH_OK) return Words(error);
    if (i % 2 != 0 && epoch_participant_await_ticket(self, ticket, nullptr, nullptr, &error) != 0) {
      return Words(error);
    }
    epoch_pin pin;
    if (i % 4 == 0 && epoch_participant_park(self, &error) != EPOCH_OK) return Words(error);
    if (epoch_participant_pin(self, &pin, &error) != EPOCH_OK) return Words(error);
    if (ReadChecked({static_cast<const std::byte*>(pin.data), pin.size}) != pin.epoch) {
      return "a torn state";
    }
    if (epoch_pin_release(&pin) != EPOCH_OK) return "no pin to release";
  }
  if (epoch_participant_leave(self, &error) != EPOCH_OK) return Words(error);
  epoch_participant_free(self);
  return {};
}

std::map<std::string, int>& Passed() {
  static std::map<std::string, int> passed;
  return passed;
}

ROLE(CRecorder) {
  seam::point_hook.store([](const char* label) {
    ++Passed()[label];
    return 0;
  });
  const std::string wrong = Work(self.args.at(0), self.args.at(1) == "voted");
  seam::point_hook.store(nullptr);
  ROLE_CHECK(wrong.empty(), wrong);
  for (const auto& [label, count] : Passed()) self.wire.Say(label);
  self.wire.Say("end");
  return 0;
}

ROLE(CVictim) {
  const Trap trap(self.args.at(2), 1, std::stoi(self.args.at(3)));
  const std::string wrong = Work(self.args.at(0), self.args.at(1) == "voted");
  self.wire.Say(wrong.empty() ? "ok" : wrong);
  return 0;
}

enum class Mode { kVolatile, kVoted, kDurable };

class KilledThroughC : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    epoch_region_options options = kSmallC;
    const std::string journal = directory_ / "journal";
    if (GetParam() == Mode::kDurable) {
      options.journal = journal.c_str();
      options.versions = 32;
    }
    epoch_region* region = nullptr;
    ASSERT_EQ(epoch_region_create(name_.name().c_str(), &options, &region, nullptr), EPOCH_OK);
    ASSERT_EQ(epoch_participant_join(region, nullptr, &self_, nullptr), EPOCH_OK);
    epoch_region_free(region);
  }
  void TearDown() override { epoch_participant_free(self_); }

  std::vector<std::string> Args() const {
    return {name_.name(), GetParam() == Mode::kVoted ? "voted" : "alone"};
  }
  // All labels that the work passes.
  std::set<std::string> Labels() {
    std::set<std::string> labels;
    Child recorder("CRecorder", Args());
    for (std::string label; (label = recorder.Hear()) != "end";) {
      if (label == "<gone>" || label == "<silent>") {
        ADD_FAILURE() << label;
        return {};
      }
      labels.insert(label);
    }
    EXPECT_EQ(recorder.Wait(), 0);
    return labels;
  }
  // A few commits of the survivor. False: the victim, which stands still, has all versions pinned.
  bool GoOn(const std::string& label) {
    for (int i = 0; i < 12; ++i) {
      epoch_error* error = nullptr;
      const epoch_code code =
          epoch_participant_update(self_, CountUp, nullptr, nullptr, nullptr, &error);
      if (code == EPOCH_RESOURCE_EXHAUSTED) {
        EXPECT_THAT(Words(error), testing::HasSubstr("\"victim\"")) << label;
        return false;
      }
      EXPECT_EQ(code, EPOCH_OK) << label << ": " << Words(error);
      if (code != EPOCH_OK) return false;
    }
    return true;
  }

  ScratchName name_;
  ScratchDirectory directory_;
  epoch_participant* self_ = nullptr;
};

TEST_P(KilledThroughC, at_each_point_the_others_go_on_and_nothing_leaks) {
  const std::set<std::string> labels = Labels();
  EXPECT_TRUE(labels.contains("publish.accepted") || labels.contains("vote.decided"));
  EXPECT_GT(labels.size(), 10u);
  for (const std::string& label : labels) {
    std::vector<std::string> args = Args();
    args.insert(args.end(), {label, std::to_string(SIGKILL)});
    Child victim("CVictim", args);
    EXPECT_EQ(victim.Wait(), -SIGKILL) << label << " was not passed";
    EXPECT_TRUE(GoOn(label));
    ExpectNoDamage(name_.path());
    if (HasFailure()) return;
  }
  ExpectNothingLeaked(Region::Open(name_.name()).value(), 1);
}

TEST_P(KilledThroughC, or_stopped_and_resumed_there) {
  for (const std::string& label : Labels()) {
    std::vector<std::string> args = Args();
    args.insert(args.end(), {label, std::to_string(SIGSTOP)});
    Child victim("CVictim", args);
    EXPECT_TRUE(victim.AwaitStop()) << label << " was not passed";
    if (HasFailure()) return;
    GoOn(label);
    victim.Continue();
    EXPECT_EQ(victim.Hear(), "ok") << label;
    EXPECT_EQ(victim.Wait(), 0) << label;
    EXPECT_TRUE(GoOn(label));
    if (HasFailure()) return;
  }
  ExpectNothingLeaked(Region::Open(name_.name()).value(), 1);
}

INSTANTIATE_TEST_SUITE_P(Modes, KilledThroughC,
                         testing::Values(Mode::kVolatile, Mode::kVoted, Mode::kDurable),
                         [](const auto& each) {
                           return std::string(each.param == Mode::kVolatile ? "volatile"
                                              : each.param == Mode::kVoted  ? "voted"
                                                                            : "durable");
                         });

}  // namespace
}  // namespace epoch::test
