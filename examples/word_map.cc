// A map from words to counts that lives inside a region: every update is a new, whole version, and
// readers use the map where it is.
//
//   word_map REGION add WORD...   count the words
//   word_map REGION show          print what has been counted
//   word_map REGION rm            remove the region
#include <boost/container/map.hpp>
#include <boost/container/string.hpp>
#include <cstdio>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include "epoch/container.h"
#include "epoch/epoch.h"

namespace {

using Word =
    boost::container::basic_string<char, std::char_traits<char>, epoch::ContainerAllocator<char>>;
using WordMap = boost::container::map<Word, int, std::less<>,
                                      epoch::ContainerAllocator<std::pair<const Word, int>>>;

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "word_map: %s\n", status.ToString().c_str());
  return 1;
}

int Add(epoch::Participant& self, std::span<char*> words) {
  const auto committed = epoch::UpdateContainer<WordMap>(self, [&](WordMap& map) {
    for (const char* word : words) ++map[Word(word, map.get_allocator())];
  });
  if (!committed.ok()) return Fail(committed.status());
  std::printf("committed epoch %llu\n", static_cast<unsigned long long>(*committed));
  return 0;
}

int Show(epoch::Participant& self) {
  const epoch::Pin pin = self.Pin();  // the map stays as it is while this is held
  const auto map = epoch::Container<WordMap>(pin);
  if (absl::IsNotFound(map.status())) return 0;  // nothing has been counted yet
  if (!map.ok()) return Fail(map.status());
  for (const auto& [word, count] : **map) std::printf("%s %d\n", word.c_str(), count);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<std::size_t>(argc));
  const std::string_view verb = argc > 2 ? arguments[2] : "";
  if (verb == "rm" && argc == 3) {
    const absl::Status removed = epoch::Region::Unlink(arguments[1]);
    return removed.ok() ? 0 : Fail(removed);
  }
  if (!(verb == "show" && argc == 3) && !(verb == "add" && argc > 3)) {
    std::fprintf(stderr, "usage: word_map REGION add WORD... | show | rm\n");
    return 2;
  }
  const auto region = epoch::Region::OpenOrCreate(arguments[1]);
  if (!region.ok()) return Fail(region.status());
  auto self = epoch::Participant::Join(*region, {.name = "word_map"});
  if (!self.ok()) return Fail(self.status());
  return verb == "add" ? Add(*self, arguments.subspan(3)) : Show(*self);
}
