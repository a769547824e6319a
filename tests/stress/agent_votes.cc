// An agent's part in votes, fences and collective commits.
#include <time.h>

#include "epoch/collective.h"
#include "stress/agent.h"
#include "stress/content.h"

namespace epoch::stress {
namespace {

// Collective commits need all voters at once, and nobody calls them together: so it is time for one
// when the clock says so. The time is its tag.
constexpr std::int64_t kCollectiveWindow_ns = 64'000'000;
constexpr std::uint64_t kCollectiveEvery = 4;

}  // namespace

// Plain, voted, fenced or both; with deadlines that stopped processes, and busy machines, miss.
CommitOptions Agent::ChooseHow() {
  CommitOptions how;
  if (random_.Below(100) >= spec_.asked_percent) return how;
  how.fence = random_.OneIn(spec_.crowded ? 8 : 3);
  how.min_voters = 0;  // also when all voters are dead
  if (!how.fence || random_.Below(5) < 3) how.agreement = Agreement::kAllVoters;
  // Whoever holds a pin is refused: that is tried, but not all the time.
  if (pinned_ && how.fence && !random_.OneIn(8))
    how = {.agreement = Agreement::kAllVoters, .min_voters = 0};
  how.on_straggler = random_.OneIn(3) ? Straggler::kExpel : Straggler::kAbort;
  how.timeout = absl::Microseconds(random_.OneIn(8) ? random_.Between(100, 2000)
                                                    : random_.Between(5000, 30'000));
  return how;
}

void Agent::TakePartInVotes() {
  {
    const std::lock_guard lock(put_off_mutex_);
    put_off_.clear();
  }
  if (!voter_) return;
  self_->SetValidator(
      [this, slot = self_->slot(), generation = self_->generation()](const Proposal& proposal) {
        return Validate(proposal, slot, generation);
      });
}

// In the listener's thread, if there is one.
Answer Agent::Validate(const Proposal& proposal, std::uint32_t slot, std::uint64_t generation) {
  Record vote = Describe(Kind::kVote, proposal.state);
  const bool reject = MustReject(serial_, vote.content);
  vote.code = static_cast<std::uint16_t>(reject ? Voted::kReject : Voted::kAccept);
  vote.epoch = proposal.epoch;
  vote.detail = proposal.ballot;
  vote.counter = generation;
  vote.slot = slot;
  if (whims_.OneIn(spec_.crowded ? 512 : 64)) {
    const timespec time{.tv_sec = 0, .tv_nsec = static_cast<long>(whims_.Below(2'000'000))};
    nanosleep(&time, nullptr);
  }
  if (whims_.OneIn(spec_.crowded ? 512 : 64)) {
    Record later = vote;
    later.code = static_cast<std::uint16_t>(Voted::kLater);
    log_.Append(later);  // before another thread may find what is put off
    const std::lock_guard lock(put_off_mutex_);
    put_off_.push_back({proposal.ballot, vote});
    return Answer::Later();
  }
  // Before it counts: whatever counts is in the log.
  log_.Append(vote);
  return reject ? Answer::Reject(kReasonMark + std::to_string(serial_)) : Answer::Accept();
}

// What the validator has put off: mostly soon, sometimes when it is decided already.
void Agent::AnswerPutOff() {
  PutOff next{};
  {
    const std::lock_guard lock(put_off_mutex_);
    if (put_off_.empty() || random_.OneIn(6)) return;
    next = put_off_.back();
    put_off_.pop_back();
  }
  const bool reject = next.vote.code == static_cast<std::uint16_t>(Voted::kReject);
  log_.Append(next.vote);
  const Answer answer =
      reject ? Answer::Reject(kReasonMark + std::to_string(serial_)) : Answer::Accept();
  Do(Operation::kVoteLater, {}, [&] { return self_->Vote(next.ballot, answer); });
}

bool Agent::CollectIfItIsTime() {
  const std::int64_t now = seam::MonotonicNanos();
  std::uint64_t tag = static_cast<std::uint64_t>(now / kCollectiveWindow_ns);
  if (!voter_ || tag % kCollectiveEvery != 0 || now % kCollectiveWindow_ns > 20'000'000) {
    return false;
  }
  // Small states have no room for the parts of all.
  if (tag == collected_ || (spec_.options.state_bytes < 1000 && !random_.OneIn(8))) {
    // Too late, now and then: it is committed already, or over.
    if (tag != collected_ || !random_.OneIn(64)) return false;
  }
  collected_ = tag;
  if (random_.OneIn(64)) ++tag;  // and nobody else has that one
  Collect(tag);
  return true;
}

void Agent::Collect(std::uint64_t tag) {
  CollectiveOptions options;
  // Some are over while another is stopped, though this one has accepted.
  options.timeout = absl::Microseconds(random_.OneIn(2) ? random_.Between(500, 6000)
                                                        : random_.Between(5000, 50'000));
  options.on_straggler = random_.OneIn(3) ? Straggler::kExpel : Straggler::kAbort;
  options.contributions = random_.OneIn(16) ? static_cast<std::uint32_t>(random_.Between(1, 6)) : 0;
  // Any of them may be the one to propose it: so all say the same.
  options.fence = tag / kCollectiveEvery % 3 == 0;
  const ContentHead head{.id = ContentId(serial_, ++drafted_)};
  const std::vector<std::byte> part = MakeContent(
      head, random_.OneIn(4) ? kMaxContributionBytes : random_.Between(sizeof head, 80));
  Record record = Describe(Kind::kContribution, part);
  record.counter = tag;
  record.flags = kVoted | (options.fence ? kFenced : 0) |
                 (options.on_straggler == Straggler::kExpel ? kExpels : 0);
  log_.Append(record);
  const Record about{.content = head.id, .flags = record.flags};
  const absl::StatusOr<Epoch> epoch = Logged(
      Operation::kCollective, about, [&] { return self_->CommitCollective(tag, part, options); });
  if (epoch.ok() && random_.OneIn(2)) PinAndLook(0);
}

// Once for each such state: all that see it see the same bytes, as their digests tell.
void Agent::LookAtParts(std::uint64_t content, std::span<const std::byte> bytes) {
  if (content == parts_of_) return;
  parts_of_ = content;
  std::vector<Record> parts;
  const bool whole = detail::ForEachContribution(
      bytes, [&](const detail::GatheredPart& part, std::span<const std::byte> given) {
        Record record = Describe(Kind::kPart, given);
        record.detail = part.generation;
        record.slot = part.slot;
        parts.push_back(record);
        return true;
      });
  const detail::GatheredHeader header = *GatheredHeaderOf(bytes);
  log_.Append({.kind = Kind::kGathered,
               .content = content,
               .digest = DigestOf(bytes),
               .detail = whole ? header.parts : kNothing,
               .counter = header.tag});
  for (Record& part : parts) log_.Append(part);
}

void Agent::StartListening() {
  Begin(Operation::kListen);
  absl::StatusOr<Listener> listener = self_->Listen();
  if (listener.ok()) listener_.emplace(*std::move(listener));
  End(Operation::kListen, listener.status());
}

}  // namespace epoch::stress
