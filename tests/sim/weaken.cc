#include "tests/sim/weaken.h"

#include <cstdio>
#include <vector>

#include "tests/sim/sites.h"
#include "tests/sim/weakened.h"

namespace epoch::sim {
namespace {

const BarrierSite* BarrierAt(const Site& site) {
  for (const BarrierSite& barrier : BarrierSites()) {
    if (site.name == barrier.site) return &barrier;
  }
  return nullptr;
}

std::vector<const Site*> Meant(const std::string& what) {
  std::vector<const Site*> meant;
  for (const Site& site : Sites()) {
    const BarrierSite* barrier = BarrierAt(site);
    if (what == "all" || what == site.name || (barrier != nullptr && what == barrier->letter)) {
      meant.push_back(&site);
    }
  }
  return meant;
}

// The sites that a barrier has in the table, and those that are in the code.
bool AllAreThere(const std::string& letter, std::size_t found) {
  std::size_t known = 0;
  for (const BarrierSite& barrier : BarrierSites()) known += letter == barrier.letter ? 1 : 0;
  return known <= found;
}

}  // namespace

void ListSites() {
  for (const Site& site : Sites()) {
    const BarrierSite* barrier = BarrierAt(site);
    std::printf("%-5s %-58s %-8s %s:%u\n", barrier != nullptr ? barrier->letter : "",
                site.name.c_str(), site.order.c_str(), site.file.c_str(), site.first_line);
  }
}

bool Weaken(const std::string& name) {
  for (const Site& site : Sites()) {
    if (site.name != name) continue;
    weakened_site = {site.first_line, site.last_line, site.file, site.order == "acquire"};
    return true;
  }
  return false;
}

int PlayWeakened(const std::string& what, const Budget& budget) {
  const std::vector<const Site*> sites = Meant(what);
  if (sites.empty() || !AllAreThere(what, sites.size())) {
    std::fprintf(stderr, "sim: \"%s\" does not name sites that are there: --weaken list\n",
                 what.c_str());
    return 2;
  }
  std::size_t found = 0;
  for (const Site* site : sites) {
    Weaken(site->name);
    const double begun = Seconds();
    const BarrierSite* known = BarrierAt(*site);
    Totals totals;
    std::printf("%s without its order (%s):\n", site->name.c_str(), site->order.c_str());
    if (known != nullptr) {
      Budget one = budget;
      one.mode = known->mode;
      one.first_seed = known->seed;
      one.batch = 1;
      one.points = 1;
      one.jobs = 1;
      totals = RunCampaign(one);
      if (totals.violations == 0) std::printf("seed %lu shows nothing any more\n", known->seed);
    }
    Budget rest = budget;
    if (known != nullptr) rest.mode = known->mode;
    if (totals.violations == 0) totals = RunCampaign(rest);
    found += totals.violations != 0 ? 1 : 0;
    std::printf("  %s after %lu schedules, %lu points, %.1f s\n",
                totals.violations != 0 ? "found" : "NOT FOUND", totals.schedules, totals.points,
                Seconds() - begun);
    std::fflush(stdout);
  }
  std::printf("weakened: sites=%zu found=%zu\n", sites.size(), found);
  return found == sites.size() ? 0 : 1;
}

}  // namespace epoch::sim
