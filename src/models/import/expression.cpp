// Grammar, lowest precedence first:
//   choice     = "lambda" NAME ":" choice | test ["if" test "else" choice]
//   test       = "not" test | sum [">" sum]
//   sum        = unary {"+" unary}
//   unary      = "-" unary | primary
//   primary    = atom {"." NAME | "(" arguments ")" | "[" choice "]"}
//   atom       = NUMBER | STRING | NAME | "@" id | "(" choices ")" | "[" choices "]" | "{" pairs "}"
#include "models/import/expression.h"

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"

namespace tomoserve::models::importer {
namespace {

constexpr std::size_t kMaxBytes = 4096;
constexpr int kMaxDepth = 32;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsWord(char c) { return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

Expression Node(Expression::Kind kind, std::vector<Expression> parts, std::string text = "") {
  Expression node;
  node.kind = kind;
  node.text = std::move(text);
  node.parts = std::move(parts);
  return node;
}

Expression Constant(Json value) {
  Expression node;
  node.value = std::move(value);
  return node;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  absl::StatusOr<Expression> Parse() {
    TS_ASSIGN_OR_RETURN(Expression whole, Choice());
    SkipBlanks();
    if (at_ != text_.size()) return Bad();
    return whole;
  }

 private:
  // Counts the levels of one path through the tree.
  class Level {
   public:
    explicit Level(Parser* parser) : parser_(parser) { ++parser_->depth_; }
    ~Level() { --parser_->depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    bool too_deep() const { return parser_->depth_ > kMaxDepth; }

   private:
    Parser* parser_;
  };

  absl::Status Bad() const {
    return absl::InvalidArgumentError(absl::StrCat("not understood from character ", at_ + 1));
  }

  void SkipBlanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }

  bool Accept(char c) {
    SkipBlanks();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  // The word that comes next, without taking it.
  std::string_view NextWord() {
    SkipBlanks();
    std::size_t end = at_;
    while (end < text_.size() && IsWord(text_[end])) ++end;
    return text_.substr(at_, end - at_);
  }

  bool AcceptWord(std::string_view word) {
    if (NextWord() != word) return false;
    at_ += word.size();
    return true;
  }

  absl::StatusOr<std::string> Name() {
    const std::string_view word = NextWord();
    if (word.empty() || IsDigit(word.front())) return Bad();
    at_ += word.size();
    return std::string(word);
  }

  absl::StatusOr<Expression> Choice() {
    const Level level(this);
    if (level.too_deep()) return Bad();
    if (AcceptWord("lambda")) {
      TS_ASSIGN_OR_RETURN(std::string parameter, Name());
      if (!Accept(':')) return Bad();
      TS_ASSIGN_OR_RETURN(Expression body, Choice());
      return Node(Expression::Kind::kLambda, {std::move(body)}, std::move(parameter));
    }
    TS_ASSIGN_OR_RETURN(Expression first, Test());
    if (!AcceptWord("if")) return first;
    TS_ASSIGN_OR_RETURN(Expression condition, Test());
    if (!AcceptWord("else")) return Bad();
    TS_ASSIGN_OR_RETURN(Expression other, Choice());
    return Node(Expression::Kind::kIf, {std::move(condition), std::move(first), std::move(other)});
  }

  absl::StatusOr<Expression> Test() {
    const Level level(this);
    if (level.too_deep()) return Bad();
    if (AcceptWord("not")) {
      TS_ASSIGN_OR_RETURN(Expression part, Test());
      return Node(Expression::Kind::kNot, {std::move(part)});
    }
    TS_ASSIGN_OR_RETURN(Expression left, Sum());
    if (!Accept('>')) return left;
    TS_ASSIGN_OR_RETURN(Expression right, Sum());
    return Node(Expression::Kind::kGreater, {std::move(left), std::move(right)});
  }

  absl::StatusOr<Expression> Sum() {
    TS_ASSIGN_OR_RETURN(Expression sum, Unary());
    int terms = 1;
    while (Accept('+')) {
      // The tree of a sum is as deep as it has terms.
      if (++terms > kMaxDepth) return Bad();
      TS_ASSIGN_OR_RETURN(Expression next, Unary());
      sum = Node(Expression::Kind::kAdd, {std::move(sum), std::move(next)});
    }
    return sum;
  }

  absl::StatusOr<Expression> Unary() {
    const Level level(this);
    if (level.too_deep()) return Bad();
    if (!Accept('-')) return Primary();
    TS_ASSIGN_OR_RETURN(Expression part, Unary());
    return Node(Expression::Kind::kNegate, {std::move(part)});
  }

  absl::StatusOr<Expression> Primary() {
    TS_ASSIGN_OR_RETURN(Expression node, Atom());
    for (int links = 0;; ++links) {
      if (links > kMaxDepth) return Bad();
      if (Accept('.')) {
        TS_ASSIGN_OR_RETURN(std::string name, Name());
        node = Node(Expression::Kind::kAttribute, {std::move(node)}, std::move(name));
      } else if (Accept('(')) {
        TS_ASSIGN_OR_RETURN(node, Arguments(std::move(node)));
      } else if (Accept('[')) {
        TS_ASSIGN_OR_RETURN(Expression index, Choice());
        if (!Accept(']')) return Bad();
        node = Node(Expression::Kind::kIndex, {std::move(node), std::move(index)});
      } else {
        return node;
      }
    }
  }

  absl::StatusOr<Expression> Arguments(Expression callee) {
    Expression call = Node(Expression::Kind::kCall, {});
    call.parts.push_back(std::move(callee));
    while (!Accept(')')) {
      if (call.parts.size() > 1 && !Accept(',')) return Bad();
      if (Accept(')')) break;
      const std::size_t start = at_;
      std::string name(NextWord());
      at_ += name.size();
      const bool named = !name.empty() && !IsDigit(name.front()) && Accept('=') && !Accept('=');
      if (!named) {
        at_ = start;
        name.clear();
      }
      TS_ASSIGN_OR_RETURN(Expression argument, Choice());
      call.parts.push_back(std::move(argument));
      call.names.push_back(std::move(name));
    }
    return call;
  }

  absl::StatusOr<Expression> Atom() {
    SkipBlanks();
    if (at_ == text_.size()) return Bad();
    const char c = text_[at_];
    if (c == '\'' || c == '"') return String();
    if (IsDigit(c) || c == '.') return Number();
    if (Accept('@')) return Reference();
    if (Accept('(')) return Items(')', true);
    if (Accept('[')) return Items(']', false);
    if (Accept('{')) return Pairs();
    TS_ASSIGN_OR_RETURN(std::string name, Name());
    if (name == "True") return Constant(true);
    if (name == "False") return Constant(false);
    if (name == "None") return Constant(nullptr);
    if (name == "if" || name == "else" || name == "not" || name == "lambda" || name == "for" || name == "in")
      return Bad();
    return Node(Expression::Kind::kName, {}, std::move(name));
  }

  absl::StatusOr<Expression> String() {
    const char quote = text_[at_++];
    std::string value;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\') return Bad();
      value.push_back(text_[at_++]);
    }
    if (at_ == text_.size()) return Bad();
    ++at_;
    return Constant(std::move(value));
  }

  absl::StatusOr<Expression> Number() {
    std::size_t end = at_;
    while (end < text_.size() &&
           (IsWord(text_[end]) || text_[end] == '.' ||
            ((text_[end] == '-' || text_[end] == '+') && (text_[end - 1] == 'e' || text_[end - 1] == 'E')))) {
      ++end;
    }
    const std::string digits(text_.substr(at_, end - at_));
    if (digits.find_first_not_of("0123456789.eE+-") != std::string::npos) return Bad();
    char* stop = nullptr;
    errno = 0;
    Json value;
    if (digits.find_first_of(".eE") == std::string::npos) {
      value = static_cast<std::int64_t>(std::strtoll(digits.c_str(), &stop, 10));
    } else {
      value = std::strtod(digits.c_str(), &stop);
    }
    if (errno != 0 || *stop != '\0') return Bad();
    at_ = end;
    return Constant(std::move(value));
  }

  absl::StatusOr<Expression> Reference() {
    std::string id;
    while (at_ < text_.size()) {
      if (IsWord(text_[at_])) {
        id.push_back(text_[at_++]);
      } else if (text_[at_] == '#') {
        id += "::";
        ++at_;
      } else if (text_.substr(at_, 2) == "::") {
        id += "::";
        at_ += 2;
      } else {
        break;
      }
    }
    if (id.empty()) return Bad();
    return Node(Expression::Kind::kReference, {}, std::move(id));
  }

  // A list, a tuple, or something in brackets.
  absl::StatusOr<Expression> Items(char end, bool may_be_one) {
    Expression list = Node(Expression::Kind::kList, {});
    bool comma = false;
    while (!Accept(end)) {
      if (!list.parts.empty()) {
        if (!Accept(',')) return Bad();
        comma = true;
        if (Accept(end)) break;
      }
      TS_ASSIGN_OR_RETURN(Expression item, Choice());
      list.parts.push_back(std::move(item));
    }
    if (may_be_one && list.parts.size() == 1 && !comma) {
      Expression inner = std::move(list.parts.front());
      return inner;
    }
    return list;
  }

  absl::StatusOr<Expression> Pairs() {
    Expression dict = Node(Expression::Kind::kDict, {});
    while (!Accept('}')) {
      if (!dict.parts.empty() && !Accept(',')) return Bad();
      if (Accept('}')) break;
      TS_ASSIGN_OR_RETURN(Expression key, Choice());
      if (!Accept(':')) return Bad();
      TS_ASSIGN_OR_RETURN(Expression value, Choice());
      dict.parts.push_back(std::move(key));
      dict.parts.push_back(std::move(value));
    }
    return dict;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

absl::StatusOr<Expression> ParseExpression(std::string_view text) {
  if (text.size() > kMaxBytes) return absl::InvalidArgumentError("longer than 4096 bytes");
  return Parser(text).Parse();
}

std::string DottedName(const Expression& expression) {
  switch (expression.kind) {
    case Expression::Kind::kName:
      return expression.text;
    case Expression::Kind::kReference:
      return absl::StrCat("@", expression.text);
    case Expression::Kind::kAttribute: {
      const std::string owner = DottedName(expression.parts[0]);
      return owner.empty() ? "" : absl::StrCat(owner, ".", expression.text);
    }
    default:
      return "";
  }
}

}  // namespace tomoserve::models::importer
