// The verbs of epochctl, one source file each.
#ifndef EPOCH_TOOLS_EPOCHCTL_VERBS_H_
#define EPOCH_TOOLS_EPOCHCTL_VERBS_H_

#include "tools/epochctl/context.h"

namespace epoch::ctl {

void AddCreate(CLI::App& app, Context& context);
void AddList(CLI::App& app, Context& context);
void AddStatus(CLI::App& app, Context& context);
void AddGet(CLI::App& app, Context& context);
void AddPut(CLI::App& app, Context& context);
void AddWait(CLI::App& app, Context& context);
void AddCheck(CLI::App& app, Context& context);
void AddLog(CLI::App& app, Context& context);
void AddCheckpoint(CLI::App& app, Context& context);
void AddRecover(CLI::App& app, Context& context);
void AddJoin(CLI::App& app, Context& context);
void AddServe(CLI::App& app, Context& context);
void AddReap(CLI::App& app, Context& context);
void AddExpel(CLI::App& app, Context& context);
void AddRemove(CLI::App& app, Context& context);
void AddVersion(CLI::App& app, Context& context);
#ifdef EPOCHCTL_DEMO
void AddDemo(CLI::App& app, Context& context);  // demo.cc
#endif

}  // namespace epoch::ctl

#endif  // EPOCH_TOOLS_EPOCHCTL_VERBS_H_
