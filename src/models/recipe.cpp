#include "tomoserve/models/recipe.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "models/recipe_checks.h"

namespace tomoserve::models {
namespace {

// The largest recipe that makes sense: 65535 labels need about 20 MB; 105 labels need 20 KB.
constexpr std::size_t kMaxRecipeBytes = 32U << 20;

// Keeps the first error; lines and columns count from 1 as editors do.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    if (!text_.empty()) return;
    position_ = absl::StrCat(line + 1, ":", column + 1);
    text_ = absl::StrCat(position_, ": ", message);
  }
  void AddWarning(int, google::protobuf::io::ColumnNumber, const std::string&) override {}

  const std::string& position() const { return position_; }
  const std::string& text() const { return text_; }

 private:
  std::string position_;
  std::string text_;
};

}  // namespace

absl::StatusOr<v1::Recipe> ParseRecipe(std::string_view text) {
  if (text.size() > kMaxRecipeBytes) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_SYNTAX", absl::StrCat(text.size()),
                       absl::StrCat("the recipe is larger than ", kMaxRecipeBytes, " bytes"));
  }
  google::protobuf::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  google::protobuf::TextFormat::Parser parser;
  FirstError error;
  parser.RecordErrorsTo(&error);
  v1::Recipe recipe;
  if (!parser.Parse(&stream, &recipe)) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_SYNTAX", error.position(), error.text());
  }
  TS_RETURN_IF_ERROR(ValidateRecipe(recipe));
  return recipe;
}

absl::Status ValidateRecipe(const v1::Recipe& recipe) {
  TS_RETURN_IF_ERROR(CheckForm(recipe));
  TS_RETURN_IF_ERROR(CheckCard(recipe));
  TS_RETURN_IF_ERROR(CheckInputs(recipe));
  TS_RETURN_IF_ERROR(CheckPreparation(recipe.preparation()));
  TS_RETURN_IF_ERROR(CheckNetwork(recipe));
  TS_RETURN_IF_ERROR(CheckWindows(recipe));
  TS_RETURN_IF_ERROR(CheckLabels(recipe));
  TS_RETURN_IF_ERROR(CheckDecode(recipe));
  TS_RETURN_IF_ERROR(CheckFindings(recipe));
  TS_RETURN_IF_ERROR(CheckFlags(recipe));
  TS_RETURN_IF_ERROR(CheckCoverage(recipe));
  return CheckSupported(recipe);
}

std::uint32_t LabelBytesPerVoxel(const v1::Recipe& recipe) {
  std::uint32_t highest = 0;
  for (const v1::Label& label : recipe.labels()) highest = std::max(highest, label.value());
  return highest <= 255 ? 1 : 2;
}

bool HasLabel(const v1::Recipe& recipe, std::uint32_t value) {
  return std::any_of(recipe.labels().begin(), recipe.labels().end(),
                     [value](const v1::Label& label) { return label.value() == value; });
}

absl::Status CheckRange(std::string_view path, const v1::DoubleRange& range, double lowest, double highest) {
  for (const auto& [given, bound] :
       {std::pair(range.has_min(), range.min()), {range.has_max(), range.max()}}) {
    if (given && (bound < lowest || bound > highest)) {
      return Invalid(path, absl::StrCat("a bound of ", bound, " is outside ", lowest, " to ", highest));
    }
  }
  if (range.has_min() && range.has_max() && range.min() > range.max()) {
    return Invalid(path, absl::StrCat("min ", range.min(), " is above max ", range.max()));
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
