// What an error says to programs: its encoding, which takes nothing on trust.
#include "epoch/details.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "epoch/region.h"
#include "support/region_test.h"
#include "support/scratch.h"

namespace epoch::test {
namespace {

ErrorDetails Everything() {
  return {.cause = Cause::kRejected,
          .outcome = Outcome::kPending,
          .expected = 7,
          .actual = Epoch{1} << 47,
          .accepted = 0,
          .culprits = {{.slot = 4095,
                        .generation = ~std::uint64_t{0},
                        .pid = 4711,
                        .name = "a",
                        .reason = std::string("no\0t", 4),
                        .epoch = 3},
                       {.slot = 0, .name = "", .reason = ""}}};
}

std::string PayloadOf(const absl::Status& status) {
  return std::string(*status.GetPayload(detail::kDetailsUrl));
}
absl::Status WithPayload(const std::string& bytes) {
  absl::Status status = absl::AbortedError("x");
  status.SetPayload(detail::kDetailsUrl, absl::Cord(absl::string_view(bytes.data(), bytes.size())));
  return status;
}

TEST(Details, come_back_as_they_were_given) {
  for (int without = 0; without < 5; ++without) {
    ErrorDetails details = Everything();
    if (without == 1) details.expected.reset();
    if (without == 2) details.actual.reset();
    if (without == 3) details.accepted.reset();
    if (without == 4) details.culprits.clear();
    const absl::Status status = detail::With(absl::AbortedError("words"), details);
    EXPECT_EQ(status.message(), "words");
    EXPECT_TRUE(Details(status) == details) << without;
    EXPECT_TRUE(Details(absl::StatusOr<int>(status)) == details);
    EXPECT_TRUE(Details(detail::Reworded(status, "other words")) == details);
  }
}

TEST(Details, are_none_of_what_is_not_ours) {
  for (const absl::Status& status : {absl::OkStatus(), absl::AbortedError("x"), WithPayload("")}) {
    EXPECT_EQ(Details(status).cause, Cause::kNone);
    EXPECT_EQ(Details(status).outcome, Outcome::kUnknown);
  }
}

// Whatever way leads to a region, and whatever is in it.
TEST(Details, are_told_by_each_way_to_a_region) {
  const ScratchName name;
  const std::string path = "/dev/shm/epoch." + name.name();
  struct Row {
    const char* what;
    absl::Status status;
    Cause cause;
  };
  RegionOptions impossible;
  impossible.versions = 1;
  RegionOptions durable;
  durable.journal = path + "-journal";
  ASSERT_OK(Region::Create(name.name()).status());
  absl::StatusOr<Region> reader = Region::Open(name.name(), {.read_only = true});
  ASSERT_OK(reader.status());
  const Row rows[] = {
      {"a name", Region::Open("a/b\nc").status(), Cause::kNone},
      {"no region", Region::Open(name.name() + "-none").status(), Cause::kOther},
      {"no region to remove", Region::Unlink(name.name() + "-none"), Cause::kOther},
      {"there already", Region::Create(name.name()).status(), Cause::kOther},
      {"a geometry", Region::Create(name.name() + "-none", impossible).status(), Cause::kInvalid},
      {"no journal", Region::Open(name.name(), durable).status(), Cause::kInvalid},
      {"no journal, or made", Region::OpenOrCreate(name.name(), durable).status(), Cause::kInvalid},
      {"no engine", Region::Restore(name.name() + "-none", durable).status(), Cause::kOther},
      {"read-only", reader->Reap().status(), Cause::kReadOnly},
      {"read-only", reader->Expel(0), Cause::kReadOnly},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    ASSERT_FALSE(row.status.ok());
    const ErrorDetails details = Details(row.status);
    EXPECT_NE(details.cause, Cause::kNone) << row.status;
    if (row.cause != Cause::kNone) {
      EXPECT_EQ(details.cause, row.cause) << row.status;
    }
    EXPECT_EQ(details.outcome, Outcome::kUnchanged) << row.status;
  }
}

TEST(Details, no_bytes_are_taken_on_trust) {
  const std::string whole = PayloadOf(detail::With(absl::AbortedError("x"), Everything()));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(Details(WithPayload(whole.substr(0, size))).cause, Cause::kNone) << size;
  }
  EXPECT_EQ(Details(WithPayload(whole + "x")).cause, Cause::kNone);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string altered = whole;
      altered[at] = static_cast<char>(altered[at] ^ (1 << bit));
      const ErrorDetails details = Details(WithPayload(altered));  // an answer, whatever it is
      EXPECT_LE(details.culprits.size(), detail::kMostCulprits);
    }
  }
  std::string later = whole;
  later[0] = 2;  // another version
  EXPECT_EQ(Details(WithPayload(later)).cause, Cause::kNone);
  later = whole;
  later[1] = static_cast<char>(200);  // a cause that this build does not know
  EXPECT_EQ(Details(WithPayload(later)).cause, Cause::kOther);
  EXPECT_EQ(Details(WithPayload(later)).outcome, Outcome::kPending);
}

TEST(Details, are_cut_where_they_would_be_too_long) {
  ErrorDetails many;
  many.culprits.resize(20);
  many.culprits[0].reason = std::string(1000, 'r');
  const ErrorDetails cut = Details(detail::With(absl::AbortedError("x"), many));
  EXPECT_EQ(cut.culprits.size(), detail::kMostCulprits);
  EXPECT_EQ(cut.culprits.at(0).reason, std::string(255, 'r'));
}

TEST(Details, behind_an_acceptance_only_codes_that_say_so_come_out) {
  using absl::StatusCode;
  for (int raw = 1; raw <= 16; ++raw) {
    const auto code = static_cast<StatusCode>(raw);
    const absl::Status status = detail::Pending(9, absl::Status(code, "why"));
    EXPECT_TRUE(
        status.code() == StatusCode::kUnavailable || status.code() == StatusCode::kCancelled ||
        status.code() == StatusCode::kDeadlineExceeded || status.code() == StatusCode::kDataLoss)
        << status.ToString();
    EXPECT_EQ(std::string(status.message()).rfind("epoch 9 is accepted, its outcome pending", 0),
              0u);
    EXPECT_NE(std::string(status.message()).find("why"), std::string::npos);
    EXPECT_EQ(Details(status).accepted, Epoch{9});
    EXPECT_EQ(Details(status).outcome,
              code == StatusCode::kDataLoss ? Outcome::kUnknown : Outcome::kPending);
  }
}

TEST(Details, of_a_journal_that_went_on_elsewhere_are_not_those_of_lost_data) {
  const absl::Status status = detail::Pending(
      9, detail::Because(Cause::kSuperseded, absl::FailedPreconditionError("superseded")));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Details(status).outcome, Outcome::kUnknown);
}

}  // namespace
}  // namespace epoch::test
