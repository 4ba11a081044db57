// Small values that the tests of this room are made of.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tomoserve/findings/flag.h"

namespace tomoserve::findings {

// A CT grid of 1 x 1 x 2.5 mm with this many slices.
inline volume::Geometry Grid(std::uint32_t slices) {
  auto grid = volume::Geometry::Create({300, 200, slices}, {1.0, 1.0, 2.5}, volume::LpsPoint{{-150, -100, 0}},
                                       {volume::LpsVector{1, 0, 0}, {0, 1, 0}, {0, 0, 1}});
  EXPECT_TRUE(grid.ok()) << grid.status();
  return *grid;
}

inline ipc::v1::LabelExtent Extent(std::uint32_t label, double volume_ml, std::uint32_t first_k,
                                   std::uint32_t last_k) {
  ipc::v1::LabelExtent extent;
  extent.set_label(label);
  extent.set_voxels(volume_ml > 0 ? 1000 : 0);
  extent.set_volume_ml(volume_ml);
  extent.set_first_k(first_k);
  extent.set_last_k(last_k);
  return extent;
}

// Flags nodules (label 1): ATTENTION from 6 mm, URGENT from 8 mm. Needs 1 l of lung that ends 5 mm inside.
inline v1::Recipe NoduleRecipe() {
  v1::Recipe recipe;
  v1::FlagRule* urgent = recipe.add_flags();
  urgent->set_label(1);
  urgent->set_level(v1::FLAG_LEVEL_URGENT);
  urgent->mutable_longest_diameter_mm()->set_min(8);
  v1::FlagRule* attention = recipe.add_flags();
  attention->set_label(1);
  attention->set_level(v1::FLAG_LEVEL_ATTENTION);
  attention->mutable_longest_diameter_mm()->set_min(6);
  attention->mutable_score()->set_min(0.5);
  recipe.mutable_coverage()->mutable_lung_inside()->set_min_volume_ml(1000);
  recipe.mutable_coverage()->mutable_lung_inside()->set_margin_mm(5);
  return recipe;
}

inline v1::Finding Nodule(double diameter_mm, double score) {
  v1::Finding finding;
  finding.set_label_value(1);
  finding.set_label("nodule");
  finding.set_score(score);
  finding.mutable_longest_diameter_3d_mm()->set_value(diameter_mm);
  finding.mutable_volume_ml()->set_value(0.3);
  finding.mutable_centre_lps()->set_x_mm(10.04);
  finding.mutable_centre_lps()->set_y_mm(-20);
  finding.mutable_centre_lps()->set_z_mm(30);
  return finding;
}

inline v1::Coverage Covered(v1::CoverageTarget target) {
  v1::Coverage coverage;
  coverage.set_target(target);
  if (target != v1::COVERAGE_TARGET_COMPLETE) {
    coverage.add_reasons()->set_code("MARGIN_HIGH_MM");
    coverage.mutable_reasons(0)->set_value("0.0");
  }
  return coverage;
}

inline std::vector<std::string> Codes(const google::protobuf::RepeatedPtrField<v1::Reason>& reasons) {
  std::vector<std::string> codes;
  for (const v1::Reason& reason : reasons) codes.push_back(reason.code());
  return codes;
}

}  // namespace tomoserve::findings
