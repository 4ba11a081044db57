// What an error of a case with a known answer says of the model.
#pragma once

#include <string_view>

namespace tomoserve::models {

// Whether an error with this code and text, of a model that was warm, is the model's own: another answer, or
// a network that fails where it has answered before. Any other one, of memory or of the machine, says nothing
// of the answer. Front and worker ask this one: what one of them forgets the other must not send runs to.
bool IsWrongAnswer(std::string_view code, std::string_view text);

}  // namespace tomoserve::models
