#include "tests/sim/sites.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace epoch::sim {
namespace {

bool InName(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

std::string WordBefore(std::string_view text, std::size_t end) {
  std::size_t begin = end;
  while (begin > 0 && InName(text[begin - 1])) --begin;
  return std::string(text.substr(begin, end - begin));
}

// One source file without its comments.
class Source {
 public:
  Source(const std::filesystem::path& root, const std::string& file) : file_(file) {
    std::ifstream in(root / file);
    for (std::string line; std::getline(in, line);) {
      // What only a planted bug does is no site.
      const bool planted = absl::EndsWith(line, "// planted");
      lines_.push_back(planted ? "" : line.substr(0, line.find("//")));
    }
  }

  void AddSites(std::vector<Site>& sites) const {
    std::map<std::string, int> count;
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      std::optional<Site> site;
      for (std::size_t at = 0; at < lines_[i].size(); ++at) {
        for (const std::string_view call : kCalls) {
          if (lines_[i].compare(at, call.size(), call) != 0) continue;
          Add(i, at, call, site);
        }
      }
      if (!site.has_value()) continue;
      if (const int n = ++count[site->name]; n > 1) absl::StrAppend(&site->name, "#", n);
      sites.push_back(*std::move(site));
    }
  }

 private:
  static constexpr std::string_view kCalls[] = {".Load(",     "->Load(",           ".Store(",
                                                "->Store(",   ".CompareExchange(", ".FetchOr(",
                                                ".FetchAdd(", ".Exchange(",        "AcquireFence("};

  // Calls that share a line are one site: they cannot be told apart.
  void Add(std::size_t line, std::size_t at, std::string_view call,
           std::optional<Site>& site) const {
    const std::size_t begin = call.find_first_not_of(".->");
    const std::string what(call.substr(begin, call.size() - 1 - begin));
    std::size_t last = line;
    const std::string arguments = Arguments(last, at + call.size());
    std::string order = "seq_cst";
    if (what == "AcquireFence") order = "acquire";
    if (absl::StrContains(arguments, "memory_order_release")) order = "release";
    if (absl::StrContains(arguments, "elaxed")) return;
    const std::string word = WordBefore(lines_[line], EndOfWord(lines_[line], at));
    const std::string name = what == "AcquireFence" ? what : absl::StrCat(word, ".", what);
    if (site.has_value()) {
      absl::StrAppend(&site->name, "+", name);
      site->last_line = static_cast<std::uint32_t>(last + 1);
      return;
    }
    site = {absl::StrCat(std::filesystem::path(file_).filename().string(), ":", Function(line), ":",
                         name),
            file_, static_cast<std::uint32_t>(line + 1), static_cast<std::uint32_t>(last + 1),
            order};
  }

  // In front of an index: "name[i].Load".
  static std::size_t EndOfWord(std::string_view line, std::size_t at) {
    if (at == 0 || line[at - 1] != ']') return at;
    const std::size_t bracket = line.rfind('[', at);
    return bracket == std::string_view::npos ? at : bracket;
  }

  // What stands between the parentheses, of which the first is just before (line, at). `line` is
  // moved to where they close.
  std::string Arguments(std::size_t& line, std::size_t at) const {
    std::string text;
    for (int depth = 1; line < lines_.size(); ++line, at = 0) {
      for (; at < lines_[line].size(); ++at) {
        const char c = lines_[line][at];
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        if (depth == 0) return text;
        text += c;
      }
    }
    return text;
  }

  // The nearest line above that begins a function, at namespace or class scope.
  std::string Function(std::size_t line) const {
    for (std::size_t i = line + 1; i-- > 0;) {
      if (const std::string name = FunctionBegunAt(i); !name.empty()) return name;
    }
    return "?";
  }
  std::string FunctionBegunAt(std::size_t i) const {
    const std::string& line = lines_[i];
    const std::size_t indent = line.find_first_not_of(' ');
    const std::size_t parenthesis = line.find('(');
    if (indent > 2 || parenthesis == std::string::npos) return "";
    const std::string name = WordBefore(line, parenthesis);
    const std::string type = line.substr(indent, parenthesis - name.size() - indent);
    if (type.empty() || (type.back() != ' ' && type.back() != ':') ||
        absl::StrContains(type, "=") || name == "if" || type == "return " || type == "else ") {
      return "";
    }
    for (std::size_t at = parenthesis; i < lines_.size(); ++i, at = 0) {
      const std::size_t end = lines_[i].find_first_of("{;", at);
      if (end != std::string::npos) return lines_[i][end] == '{' ? name : "";
    }
    return "";
  }

  const std::string file_;
  std::vector<std::string> lines_;
};

std::vector<Site> ReadSites() {
  const std::filesystem::path root = EPOCH_SIM_ROOT;
  std::vector<std::string> files;
  for (const char* below : {"include/epoch", "core/files", "core/journal"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / below, error)) {
      const std::string name = entry.path().filename().string();
      const bool code = absl::EndsWith(name, ".h") || absl::EndsWith(name, ".cc");
      if (!code || name == "seam.h" || name == "system_calls.h") continue;
      files.push_back(std::filesystem::relative(entry.path(), root).string());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<Site> sites;
  for (const std::string& file : files) Source(root, file).AddSites(sites);
  if (sites.empty()) {
    std::fprintf(stderr, "sim: no sources under %s\n", root.c_str());
    std::exit(2);
  }
  return sites;
}

}  // namespace

const std::vector<Site>& Sites() {
  static const std::vector<Site> sites = ReadSites();
  return sites;
}

const std::vector<BarrierSite>& BarrierSites() {
  static const std::vector<BarrierSite> sites = {
      {"A", "pinning.h:Pin:pin.CompareExchange", 286, Mode::kVolatile},
      {"A", "pinning.h:Pin:head.Load", 28919, Mode::kVolatile},
      {"A", "pinning.h:PinSlowly:pin.Exchange", 68, Mode::kVolatile},
      {"A", "pinning.h:PinSlowly:head.Load#5", 44, Mode::kVolatile},
      {"B", "bell.h:RingAt:bell.Load", 1027, Mode::kVolatile},
      {"B", "bell.h:ArmAt:bell.FetchOr", 497, Mode::kVolatile},
      {"B", "member.h:AcknowledgeIn:ack.CompareExchange", 3790, Mode::kVolatile},
      {"B", "slots.h:ForEachStraggler:state.Load", 504, Mode::kVolatile},
      {"B", "slots.h:ForEachStraggler:ack.Load", 2048, Mode::kVolatile},
      {"B", "slots.h:ExpelSlot:state.CompareExchange", 760, Mode::kVolatile},
      {"B", "slots.h:Dismantle:state.CompareExchange", 1050, Mode::kVolatile},
      {"B", "waiting.h:AwaitCommitted:head.Load#2", 59, Mode::kWriters},
      {"B", "member.h:Park:flags.FetchOr", 39217, Mode::kVolatile},
      {"B", "slots.h:ForEachStraggler:flags.Load", 82367, Mode::kVolatile},
      {"C", "versions.h:Reclaim:head.Load", 33531, Mode::kVolatile},
      {"C", "versions.h:PinSet:pin.Load", 61, Mode::kVolatile},
      {"C", "versions.h:GuardSet:guard.Load", 295, Mode::kVolatile},
      {"C", "layout.h:SlotLimit:slot_limit.Load", 8946, Mode::kVolatile},
      {"D", "slots.h:ReapSlot:state.Load", 204, Mode::kVolatile},
      {"E", "pinning.h:PinSlowly:pin.Store#3", 814, Mode::kReaders},
      {"G", "pinning.h:HoldTail:own.Exchange", 502, Mode::kVolatile},
      {"G", "pinning.h:HoldTail:tail.Load#3", 2, Mode::kVolatile},
      {"H", "driver.h:Hold:guard_.Exchange", 102, Mode::kAborts},
      {"H", "driver.h:Hold:at.Load#2", 281, Mode::kVotes},
      {"I", "driver.h:FindObstacle:head.CompareExchange", 8446, Mode::kVotes},
      {"I", "driver.h:HeldPin:pin.Load", 541, Mode::kVotes},
      {"J", "driver.h:MissingVote:state.Load", 99, Mode::kVotes},
      {"J", "driver.h:MissingVote:vote.Load", 38, Mode::kVotes},
      {"K", "voter.h:Cast:vote.Exchange#2", 38, Mode::kVotes},
      {"L", "gathering.h:Offer:offer.Exchange", 427, Mode::kVotes},
      {"other", "pinning.h:Unpin:pin.Store", 61, Mode::kVolatile},
      {"other", "pinning.h:ReleaseTail:own.Store", 234, Mode::kVolatile},
      {"other", "pinning.h:Pin:state.Load", 3787, Mode::kVolatile},
      {"other", "pinning.h:PinSlowly:state.Load#2", 760, Mode::kVolatile},
      {"other", "pinning.h:PinSlowly:pin.Store#2", 1016, Mode::kVolatile},
      {"other", "slots.h:ClearOwned:word.CompareExchange", 3241, Mode::kVolatile},
      {"other", "slots.h:TryTakeSlot:slot_limit.CompareExchange", 758, Mode::kVolatile},
      {"other", "slots.h:TryTakeSlot:state.CompareExchange#2", 7818, Mode::kMembers},
      {"other", "slots.h:TryTakeSlot:word.Store", 623, Mode::kVolatile},
      {"other", "head.h:HelpHead:head.Load", 204, Mode::kVolatile},
      {"other", "head.h:HelpHead:head.CompareExchange", 37, Mode::kVolatile},
      {"other", "head.h:HelpAccepted:tail.Load", 43244, Mode::kVolatile},
      {"other", "accept.h:Accept:state.Load", 41970, Mode::kVolatile},
      {"other", "accept.h:Accept:tail.CompareExchange", 2, Mode::kVolatile},
      {"other", "accept.h:Accept:owner.CompareExchange", 1537, Mode::kVolatile},
      {"other", "head.h:AdvanceDurableHead:head.CompareExchange", 753, Mode::kDurable},
      {"other", "mapping.h:CheckControl:head.Load", 5548, Mode::kDurable},
      {"other", "freezer.cc:FreezeW:w.CompareExchange", 25883, Mode::kDurable},
      {"other", "region.h:Read:AcquireFence", 7467, Mode::kReaders},
      {"other", "writer.cc:Prepare:AcquireFence", 1, Mode::kWriters},
      {"other", "ring.h:Of:w.Load+e.Load+h.Load", 11, Mode::kWriters},
      {"other", "versions.h:MarkPublished:owner.Load", 75195, Mode::kMembers},
      {"other", "versions.h:MarkPublished:owner.CompareExchange", 6880, Mode::kVolatile},
      {"other", "versions.h:Reclaim:owner.Load", 509, Mode::kVolatile},
      {"other", "versions.h:Reclaim:owner.CompareExchange#2", 107, Mode::kVolatile},
      {"other", "versions.h:DraftCell:owner.CompareExchange", 2, Mode::kVolatile},
      {"other", "versions.h:DropDraft:owner.CompareExchange", 2, Mode::kVolatile},
      {"other", "versions.h:FreeDraftsOf:owner.CompareExchange", 4667, Mode::kVolatile},
      {"other", "region.h:Read:head.Load", 73, Mode::kReaders},
      {"other", "region.h:Read:owner.Load", 2193, Mode::kReaders},
      {"other", "region.h:Read:head.Load#2", 16262, Mode::kReaders},
      {"other", "member.h:SetFlags:flags.Exchange", 19523, Mode::kVolatile},
      {"other", "freezer.cc:MarkWritten:w.CompareExchange", 37, Mode::kWriters},
      {"other", "region.h:Read:owner.Load#2", 92028, Mode::kReaders},
  };
  return sites;
}

}  // namespace epoch::sim
