// Cases of what validation refuses: the change that is made to a valid recipe, and the field that the error
// must name.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "models/recipes.h"
#include "tomoserve/base/status.h"

namespace tomoserve::models {

struct Case {
  const char* name;
  std::function<void(v1::Recipe&)> change;
  const char* path;
};

inline v1::Recipe Valid(const char* text) {
  v1::Recipe recipe;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &recipe));
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
  return recipe;
}

inline std::string CaseName(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }

inline void ExpectRefused(const char* text, const Case& test, const char* reason) {
  v1::Recipe recipe = Valid(text);
  test.change(recipe);
  const absl::Status status = ValidateRecipe(recipe);
  EXPECT_EQ(base::ReasonOf(status), reason) << status;
  EXPECT_EQ(base::ValueOf(status), test.path) << status;
}

using R = v1::Recipe&;

}  // namespace tomoserve::models
