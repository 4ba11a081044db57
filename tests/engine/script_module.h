// TorchScript files made on the spot.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <caffe2/serialize/inline_container.h>
#include <sys/mman.h>
#include <torch/csrc/jit/api/module.h>
#include <unistd.h>

#include <functional>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "tomoserve/base/digest.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::testing {

// Bytes of an archive whose module has these methods ("def forward(self, x): ...").
inline std::string ScriptArchive(const std::string& methods,
                                 const std::function<void(torch::jit::Module&)>& setup = {}) {
  torch::jit::Module module("Net");
  if (setup) setup(module);
  module.define(methods);
  std::ostringstream out;
  module.save(out);
  return out.str();
}

// A 1x1x1 convolution that multiplies by `weight`.
inline std::string ConvArchive(double weight, std::int64_t input_channels = 1,
                               std::int64_t output_channels = 1) {
  return ScriptArchive(
      "def forward(self, x):\n  return torch.conv3d(x, self.weight)\n", [&](torch::jit::Module& m) {
        m.register_parameter("weight", at::full({output_channels, input_channels, 1, 1, 1}, weight), false);
      });
}

// The archive with `from` replaced by `to` in its code.
inline std::string WithCode(const std::string& archive, const std::string& from, const std::string& to) {
  std::istringstream in(archive);
  caffe2::serialize::PyTorchStreamReader reader(&in);
  std::string out;
  bool replaced = false;
  {
    caffe2::serialize::PyTorchStreamWriter writer([&](const void* data, std::size_t size) {
      out.append(static_cast<const char*>(data), size);
      return size;
    });
    for (const std::string& name : reader.getAllRecords()) {
      if (name == "version" || name.starts_with(".data/")) continue;  // the writer makes its own
      const auto [data, size] = reader.getRecord(name);
      std::string record(static_cast<const char*>(data.get()), size);
      if (const auto at = record.find(from); name.ends_with(".py") && at != std::string::npos) {
        record.replace(at, from.size(), to);
        replaced = true;
      }
      writer.writeRecord(name, record.data(), record.size());
    }
    writer.writeEndOfFile();
  }
  if (!replaced) throw std::logic_error("the archive's code has no such text");
  return out;
}

// A descriptor of a file with these bytes.
inline base::UniqueFd FileOf(const std::string& bytes) {
  base::UniqueFd fd(memfd_create("model", MFD_CLOEXEC));
  if (!fd.valid() || write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    throw std::runtime_error("memfd");
  }
  return fd;
}

// A recipe with windows of size^3, one channel in and out, threshold 0.5, label 1.
inline v1::Recipe SmallRecipe(std::uint32_t size = 8) {
  v1::Recipe recipe;
  recipe.set_title("test");
  recipe.mutable_card()->set_intended_use("tests");
  recipe.mutable_card()->set_regulatory_status(v1::REGULATORY_STATUS_DEMONSTRATION);
  recipe.mutable_card()->set_author("Tomoserve");
  recipe.mutable_card()->set_license("Apache-2.0");
  recipe.mutable_card()->set_source("this test");
  v1::Input* input = recipe.add_inputs();
  input->set_name("ct");
  input->add_modalities("CT");
  v1::Windows* windows = recipe.mutable_windows();
  windows->set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (int axis = 0; axis < 3; ++axis) windows->add_size(size);
  v1::Network* network = recipe.mutable_network();
  network->add_files("model.ts");
  network->set_spatial_dims(3);
  network->set_axes(v1::TENSOR_AXES_XYZ);
  network->set_input_channels(1);
  network->set_output_channels(1);
  recipe.add_decode()->set_activation(v1::ACTIVATION_NONE);
  recipe.add_decode()->mutable_threshold()->set_above(0.5);
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  v1::Label* label = recipe.add_labels();
  label->set_value(1);
  label->set_name("bright");
  label->set_rgb(0xff0000);
  for (v1::Code* code : {label->mutable_type(), label->mutable_category()}) {
    code->set_value("49755003");
    code->set_scheme("SCT");
    code->set_meaning("Morphologically Altered Structure");
  }
  v1::FindingRule* rule = recipe.add_findings();
  rule->set_label(1);
  rule->set_each_component(true);
  recipe.add_flags()->set_label(1);
  recipe.mutable_flags(0)->set_level(v1::FLAG_LEVEL_INFO);
  recipe.mutable_coverage()->mutable_not_needed()->set_because("tests");
  return recipe;
}

}  // namespace tomoserve::testing
