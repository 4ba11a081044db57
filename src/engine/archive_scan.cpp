#include "engine/archive_scan.h"

#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/frontend/source_range.h>

#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/graph_scan.h"
#include "tomoserve/base/status.h"

namespace tomoserve::engine {
namespace {

absl::Status Forbidden(std::string_view what) {
  return base::Error(absl::StatusCode::kInvalidArgument, "MODEL_FORBIDDEN_OP", what,
                     "the network's code uses an operation that is not allowed");
}

struct Word {
  int kind = 0;
  std::string text;
};

// Kinds and texts of all tokens; one end token more than the code has.
std::vector<Word> Words(std::string code) {
  torch::jit::Lexer lexer(std::make_shared<torch::jit::Source>(std::move(code)));
  std::vector<Word> words;
  while (lexer.cur().kind != torch::jit::TK_EOF) {
    const torch::jit::Token token = lexer.next();
    words.push_back({token.kind, token.text()});
  }
  words.push_back({torch::jit::TK_EOF, ""});
  return words;
}

// "a.b.c" from words[begin]; `end` is set behind it.
std::string Chain(const std::vector<Word>& words, std::size_t begin, std::size_t& end) {
  std::string chain = words[begin].text;
  end = begin + 1;
  // The word after a dot is a name whatever the lexer calls it; the end token is never one.
  while (words[end].kind == '.' && words[end + 1].kind != torch::jit::TK_EOF) {
    chain += "." + words[end + 1].text;
    end += 2;
  }
  return chain;
}

// The operation that a call of `torch.x`, `torch.autograd.x` or `ops.space.x` means.
std::string OperationOf(std::string_view chain) {
  const std::string_view name = chain.substr(chain.rfind('.') + 1);
  if (chain.starts_with("torch.")) return "aten::" + std::string(name);
  const std::string_view space = chain.substr(4, chain.rfind('.') - 4);
  return std::string(space) + "::" + std::string(name);
}

absl::Status ScanRoot(const std::vector<Word>& words, std::size_t at) {
  std::size_t end = 0;
  const std::string chain = Chain(words, at, end);
  if (words[at].text == "__torch__") {
    return chain.starts_with("__torch__.torch.classes") ? Forbidden(chain) : absl::OkStatus();
  }
  const bool complete =
      chain.starts_with("torch.") || (chain.starts_with("ops.") && chain.find('.', 4) != chain.npos);
  if (!complete || words[end].kind != '(') return Forbidden(chain);
  const std::string operation = OperationOf(chain);
  return OperationAllowed(operation) ? absl::OkStatus() : Forbidden(operation);
}

}  // namespace

absl::Status ScanCode(std::string code) {
  const std::vector<Word> words = Words(std::move(code));
  for (std::size_t at = 0; at < words.size(); ++at) {
    const Word& word = words[at];
    const bool member = at > 0 && words[at - 1].kind == '.';
    if (word.kind == torch::jit::TK_STRINGLITERAL) {
      // getattr(value, "save")
      if (word.text.find("from_file") != std::string::npos || word.text == "\"save\"" ||
          word.text == "'save'") {
        return Forbidden(word.text);
      }
    } else if (word.text == "__setstate__") {
      return Forbidden(word.text);
    } else if (member && !OperationAllowed("aten::" + word.text)) {
      return Forbidden("aten::" + word.text);  // also as a method of a tensor
    } else if (!member && (word.text == "torch" || word.text == "ops" || word.text == "__torch__")) {
      TS_RETURN_IF_ERROR(ScanRoot(words, at));
    }
  }
  return absl::OkStatus();
}

absl::Status ScanArchive(std::shared_ptr<caffe2::serialize::ReadAdapterInterface> archive) {
  caffe2::serialize::PyTorchStreamReader reader(std::move(archive));
  // Archives from before PyTorch 1.2 are loaded by other code.
  TORCH_CHECK(!reader.hasRecord("model.json"), "archive of an unsupported, old version");
  for (const std::string& name : reader.getAllRecords()) {
    if (!name.ends_with(".py")) continue;
    const auto [data, size] = reader.getRecord(name);
    TS_RETURN_IF_ERROR(ScanCode(std::string(static_cast<const char*>(data.get()), size)));
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::engine
