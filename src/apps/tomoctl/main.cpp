// tomoctl: looks at studies, makes phantoms, talks to a server. The verbs are listed in verbs.h.
#include <csignal>
#include <cstdio>
#include <exception>

#include "apps/tomoctl/verbs.h"

namespace {

using tomoserve::tomoctl::Context;

int Run(int argc, char** argv) {
  Context context;
  CLI::App app("Client of tomoserve, the inference server for 3D medical images");
  app.add_option("--server", context.server, "HOST:PORT of the server")->capture_default_str();
  app.require_subcommand(1);
  app.fallthrough();

  tomoserve::tomoctl::AddInspect(app, context);
  CLI::App* model = app.add_subcommand("model", "Work on models of a repository");
  model->require_subcommand(1);
  tomoserve::tomoctl::AddModelImport(*model, context);
  tomoserve::tomoctl::AddModelCheck(*model, context);
  tomoserve::tomoctl::AddModelActivation(*model, context);
  tomoserve::tomoctl::AddPhantom(app, context);
  tomoserve::tomoctl::AddAnalyze(app, context);
  tomoserve::tomoctl::AddCancel(app, context);
  tomoserve::tomoctl::AddClose(app, context);
  tomoserve::tomoctl::AddFlags(app, context);
  tomoserve::tomoctl::AddHealth(app, context);
  tomoserve::tomoctl::AddLoad(app, context);
  tomoserve::tomoctl::AddModels(app, context);
  tomoserve::tomoctl::AddPlan(app, context);
  tomoserve::tomoctl::AddRerun(app, context);
  tomoserve::tomoctl::AddWatch(app, context);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // exit prints the message, or the help that was asked for.
    return app.exit(error) == 0 ? tomoserve::tomoctl::kDone : tomoserve::tomoctl::kUsage;
  }
  return context.exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tomoctl: %s\n", error.what());
    return tomoserve::tomoctl::kFailed;
  }
}
