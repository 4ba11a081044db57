// The verbs of tomoctl. Each lives in a file of its name and adds one subcommand, whose callback runs it and
// sets the exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace tomoserve::tomoctl {

// Exit codes of every verb.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kUnreachable = 3;
inline constexpr int kRefused = 4;

struct Context {
  std::string server = "127.0.0.1:8400";
  int exit_code = kDone;
};

// Without a server:
void AddInspect(CLI::App& app, Context& context);
void AddPhantom(CLI::App& app, Context& context);
void AddPlan(CLI::App& app, Context& context);  // or with one
// `tomoctl model`: import without a server, check with one that it starts, activate and history with one.
void AddModelCheck(CLI::App& model, Context& context);
void AddModelImport(CLI::App& model, Context& context);
void AddModelActivation(CLI::App& model, Context& context);
// With one:
void AddAnalyze(CLI::App& app, Context& context);
void AddCancel(CLI::App& app, Context& context);
void AddClose(CLI::App& app, Context& context);
void AddFlags(CLI::App& app, Context& context);
void AddHealth(CLI::App& app, Context& context);
void AddLoad(CLI::App& app, Context& context);
void AddModels(CLI::App& app, Context& context);
void AddRerun(CLI::App& app, Context& context);
void AddWatch(CLI::App& app, Context& context);

}  // namespace tomoserve::tomoctl
