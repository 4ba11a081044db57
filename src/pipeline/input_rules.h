// What a recipe says of its inputs, whatever carries it out.
#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <cstddef>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Volumes that the network sees. A recipe that states no input has one.
std::size_t InputVolumes(const v1::Recipe& recipe);

// The intensity steps of an input.
const google::protobuf::RepeatedPtrField<v1::IntensityStep>& IntensityOf(const v1::Recipe& recipe,
                                                                         std::size_t input);

// Whether a z-score of any input takes the non-zero region with its holes filled, which is one for all
// inputs.
bool NormalisesInRegion(const v1::Recipe& recipe);

// Whether the volumes of all inputs must be there before the first of them is prepared.
bool PreparesTogether(const v1::Recipe& recipe);

}  // namespace tomoserve::pipeline
