#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/files/write_queue.h"
#include "core/journal/format/format.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

absl::Status Version(Context& context) {
  const std::string layout = fmt::format("{}.{}", detail::kLayoutMajor, detail::kLayoutMinor);
  const std::string fingerprint = fmt::format("{:016x}", detail::LayoutFingerprint());
  const std::string format = fmt::format("{}.{}", journal::kFormatMajor, journal::kFormatMinor);
  const std::string backend = journal::WriteBackend();
  if (context.json()) {
    context.PrintJson({{"schema", "epoch.version/1"},
                       {"version", EPOCH_VERSION},
                       {"layout", layout},
                       {"fingerprint", fingerprint},
                       {"protocol", detail::kProtocol},
                       {"protocol_floor", detail::kProtocolFloor},
                       {"journal_format", format},
                       {"backend", backend},
                       {"io_uring", backend == "io_uring"}});
    return absl::OkStatus();
  }
  Table table("<<");
  table.Row({"epochctl", EPOCH_VERSION});
  table.Row({"layout", fmt::format("{} (fingerprint {})", layout, fingerprint)});
  table.Row({"protocol", fmt::format("{}, shares regions with {} and later", detail::kProtocol,
                                     detail::kProtocolFloor)});
  table.Row({"journal", fmt::format("format {}", format)});
  table.Row({"backend",
             backend == "io_uring" ? backend : backend + " (io_uring is refused on this machine)"});
  context.Print(table.Text());
  return absl::OkStatus();
}

}  // namespace

void AddVersion(CLI::App& app, Context& context) {
  context.AddVerb(app, "version", "Says what this build speaks", "epochctl version -o json",
                  [&context] { return Version(context); });
}

}  // namespace epoch::ctl
